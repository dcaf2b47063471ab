//! The fuzzer's properties over its seed corpus and a bounded number of mutations of it, for every run of the tests. The
//! fuzzer itself is in `proxy/fuzz`.

use std::path::Path;

use authsome_core::entropy::{Entropy, SeededEntropy};
use authsome_proxy::fuzz;

/// Mutations of each seed.
const ROUNDS: usize = 400;
/// A seed grows no longer.
const LONGEST: usize = 4096;

/// What is put into inputs: where readers differ.
const PIECES: [&[u8]; 24] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"%2f",
    b"%2e",
    b"%",
    b"/../",
    b"//",
    b"?",
    b"&",
    b"=",
    b"key=",
    b"pk_live_",
    b"X-AuthSome-",
    b"X_AuthSome_",
    b"Content-Length: 1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: a\r\n",
    b"0\r\n\r\n",
    b"\xc0\xaf",
];

fn mutate(input: &mut Vec<u8>, entropy: &SeededEntropy) {
    let below = |bound: usize| usize::try_from(entropy.next_u64() % bound.max(1) as u64).unwrap();
    for _ in 0..=below(4) {
        let at = below(input.len() + 1);
        match below(5) {
            0 if at < input.len() => input[at] ^= 1 << below(8),
            1 if at < input.len() => drop(input.remove(at)),
            2 => input.truncate(at),
            3 => {
                let from = below(input.len() + 1).min(at);
                let copied = input[from..at].to_vec();
                input.splice(at..at, copied);
            }
            _ => drop(input.splice(at..at, PIECES[below(PIECES.len())].iter().copied())),
        }
        input.truncate(LONGEST);
    }
}

fn run(corpus: &str, check: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(corpus);
    let mut seeds: Vec<_> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    seeds.sort();
    assert!(seeds.len() >= 5, "{}", directory.display());
    let entropy = SeededEntropy::new(0x5eed);
    for seed in seeds {
        let bytes = std::fs::read(&seed).unwrap();
        check(&bytes);
        let mut input = bytes.clone();
        for round in 0..ROUNDS {
            if round % 8 == 0 {
                input.clone_from(&bytes);
            }
            mutate(&mut input, &entropy);
            check(&input);
        }
    }
}

#[test]
fn the_path_normaliser_holds_on_the_corpus_and_its_mutations() {
    run("path", fuzz::path);
}

#[test]
fn the_head_scanner_holds_on_the_corpus_and_its_mutations() {
    run("head", fuzz::head);
}

#[test]
fn both_forwarding_paths_hold_on_the_corpus_and_its_mutations() {
    run("paths", fuzz::paths);
}

#[test]
fn the_chunk_reader_holds_on_the_corpus_and_its_mutations() {
    run("chunks", fuzz::chunks);
}

#[test]
fn the_header_normaliser_holds_on_the_corpus_and_its_mutations() {
    run("headers", fuzz::headers);
}

#[test]
fn the_reader_of_trailers_holds_on_the_corpus_and_its_mutations() {
    run("trailers", fuzz::trailers);
}
