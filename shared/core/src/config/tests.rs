use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tempfile::NamedTempFile;

use super::*;
use crate::seal::PlatformRing;
use crate::secret::SecretUrl;

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// The lines that are reported, with the file's path replaced by FILE.
fn lines<T>(text: &str, environment: Environment, read: impl FnOnce(&mut Reader) -> Option<T>) -> Vec<String> {
    let file = file(text);
    let errors = Reader::new(Some(file.path()), environment)
        .finish(read)
        .err()
        .expect("no problem was found");
    let path = file.path().display().to_string();
    errors
        .to_string()
        .lines()
        .map(|line| line.replace(&path, "FILE"))
        .collect()
}

fn value<T: FromValue>(text: &str, key: &'static str) -> T {
    let file = file(text);
    Reader::new(Some(file.path()), Environment::default())
        .finish(|reader| reader.required(key))
        .unwrap()
}

#[test]
fn the_environment_wins_over_the_file_and_the_prefix_over_the_older_name() {
    let toml = "[database]\nurl = 'postgres://file/a'\n";
    let read = |environment: Environment| {
        let file = file(toml);
        let reader = Reader::new(Some(file.path()), environment);
        reader
            .finish(|reader| reader.required::<SecretUrl>("database.url"))
            .unwrap()
            .expose()
            .to_owned()
    };
    assert_eq!(read(Environment::default()), "postgres://file/a");
    assert_eq!(read([("DATABASE_URL", "postgres://old/a")].into()), "postgres://old/a");
    let both = [
        ("DATABASE_URL", "postgres://old/a"),
        ("AUTHSOME_DATABASE_URL", "postgres://new/a"),
    ];
    assert_eq!(read(both.into()), "postgres://new/a");
    assert_eq!(read([("AUTHSOME_DATABASE_URL", "")].into()), "postgres://file/a");
}

#[test]
fn every_problem_is_reported_at_once_with_key_and_source() {
    let toml = "
        [listen]
        port = 99999
        workers = 'many'
        prot = 1
        [shutdown]
        deadline = 30
        [nothing]
        at = { all = true }
    ";
    let environment = Environment::from([("AUTHSOME_CACHE_SIZE", "64M"), ("AUTHSOME_LISTEN_BACKLOG", "0")]);
    let found = lines(toml, environment, |reader| {
        let url = reader.required::<SecretUrl>("database.url");
        reader.or("listen.port", 8081_u16);
        reader.or("listen.workers", 4_usize);
        reader.or("shutdown.deadline", Duration::ZERO);
        reader.or("cache.size", ByteSize::mib(1));
        let backlog = reader.or("listen.backlog", 128_u32);
        reader.check("listen.backlog", backlog > 0, "must not be 0");
        reader.check("listen.port", false, "is not said of a key that has a problem");
        reader.check("cache.ttl", false, "must be shorter than cache.stale");
        url
    });
    assert_eq!(
        found,
        [
            "database.url: required; set it in the file or in AUTHSOME_DATABASE_URL or DATABASE_URL",
            "listen.port: 99999 is not a whole number from 0 to 65535 (from FILE)",
            &format!(
                "listen.workers: \"many\" is not a whole number from 0 to {} (from FILE)",
                usize::MAX
            ),
            "shutdown.deadline: 30 is not a duration such as 250ms, 30s, 5m, 24h or 7d (from FILE)",
            "cache.size: \"64M\" is not a size such as 512B, 64KiB, 64MiB or 2GiB (from AUTHSOME_CACHE_SIZE)",
            "listen.backlog: must not be 0 (from AUTHSOME_LISTEN_BACKLOG)",
            "cache.ttl: must be shorter than cache.stale (the default)",
            "listen.prot: there is no such setting; did you mean listen.port? (from FILE)",
            "nothing.at.all: there is no such setting (from FILE)",
        ]
    );
}

#[test]
fn the_value_of_a_secret_is_never_shown() {
    let toml = "
        [jwt]
        secret = 4711471147114711
        [database]
        url = 'hunter2'
        [tokens]
        list = ['', 'hunter2']
    ";
    let environment = Environment::from([("ENCRYPTION_KEY", "hunter2"), ("AUTHSOME_REDIS_URL", "hunter2")]);
    let found = lines(toml, environment, |reader| {
        reader.required::<SecretString>("jwt.secret");
        reader.required::<SecretUrl>("database.url");
        reader.required::<SecretUrl>("redis.url");
        reader.required::<PlatformRing>("encryption.key");
        reader.required::<Vec<SecretString>>("tokens.list");
        Some(())
    });
    assert_eq!(found.len(), 5, "{found:?}");
    assert!(found[3].ends_with("sealing key number 1 (from 1) is not the base64 of 32 bytes (from ENCRYPTION_KEY)"));
    for line in found {
        assert!(!line.contains("hunter2") && !line.contains("4711"), "{line}");
    }
    let debug = format!("{:?}", Environment::from([("JWT_SECRET", "hunter2")]));
    assert_eq!(debug, r#"{"JWT_SECRET"}"#);
}

#[test]
fn a_file_that_is_not_toml_is_named_by_line_without_quoting_it() {
    let toml = "[listen]\nport = 1\n[jwt]\nsecret = \"hunter2\n";
    let found = lines(toml, Environment::default(), |_| Some(()));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("not valid TOML in line 4: ") && found[0].ends_with(" (from FILE)"),
        "{found:?}"
    );
    assert!(!found[0].contains("hunter2"));
}

#[test]
fn no_way_to_break_a_line_makes_the_parser_quote_it() {
    for line in [
        "hunter2",
        "'hunter2",
        "\"hunter2\\q\"",
        "[hunter2",
        "{ hunter2",
        "2024-hunter2",
        "0xhunter2",
        "'x' hunter2",
    ] {
        for found in lines(&format!("secret = {line}\n"), Environment::default(), |_| Some(())) {
            assert!(!found.contains("hunter2"), "{found}");
        }
    }
}

#[test]
fn what_may_hold_a_secret_by_mistake_is_not_quoted() {
    let environment = Environment::from([("AUTHSOME_LISTEN_ADDRESS", "redis://:hunter2@cache")]);
    let found = lines("[redis]\npassword = 'hunter2'\n", environment, |reader| {
        reader.required::<SocketAddr>("listen.address");
        reader.required::<SocketAddr>("redis");
        Some(())
    });
    assert_eq!(found.len(), 2, "{found:?}");
    for line in found {
        assert!(
            !line.contains("hunter2") && line.contains(": the value is not an address and port"),
            "{line}"
        );
    }
}

#[test]
fn a_file_that_is_not_there_is_a_problem_among_others() {
    let missing = std::path::Path::new("/nonexistent/authsome.toml");
    let errors = Reader::new(Some(missing), Environment::default())
        .finish(|reader| reader.required::<u16>("listen.port"))
        .unwrap_err();
    assert_eq!(
        errors.to_string(),
        "the file does not exist (from /nonexistent/authsome.toml)\n\
         listen.port: required; set it in the file or in AUTHSOME_LISTEN_PORT"
    );
}

#[test]
fn a_misspelt_variable_is_pointed_at() {
    let environment = Environment::from([("AUTHSOME_DATABSE_URL", "postgres://db/a")]);
    let found = lines("", environment, |reader| reader.required::<SecretUrl>("database.url"));
    assert!(
        found[0].ends_with("(is AUTHSOME_DATABSE_URL a misspelling of it?)"),
        "{found:?}"
    );
}

#[test]
fn a_section_of_another_program_is_left_alone() {
    let file = file("[provisioner]\nregion = 'eu'\n[listen]\nport = 1\n");
    let port = Reader::new(Some(file.path()), Environment::default()).finish(|reader| {
        reader.ignore("provisioner");
        reader.required::<u16>("listen.port")
    });
    assert_eq!(port, Ok(1));
}

#[test]
fn a_section_where_a_value_should_be_is_a_problem() {
    let found = lines("listen = 1\n", Environment::default(), |reader| {
        Some(reader.or("listen.port", 8081_u16))
    });
    assert_eq!(found, ["listen: there is no such setting (from FILE)"]);
    let found = lines("[listen.port]\nx = 1\n", Environment::default(), |reader| {
        Some(reader.or("listen.port", 8081_u16))
    });
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn each_type_is_read_from_the_file() {
    assert!(value::<bool>("a = true", "a"));
    assert_eq!(value::<i64>("a = -3", "a"), -3);
    assert!((value::<f64>("a = 2", "a") - 2.0).abs() < f64::EPSILON);
    assert!((value::<f64>("a = 0.25", "a") - 0.25).abs() < f64::EPSILON);
    assert_eq!(value::<String>("a = 'x'", "a"), "x");
    assert_eq!(value::<Duration>("a = '5m'", "a"), Duration::from_mins(5));
    assert_eq!(value::<ByteSize>("a = '64MiB'", "a"), ByteSize::mib(64));
    assert_eq!(
        value::<SocketAddr>("a = '127.0.0.1:80'", "a"),
        SocketAddr::from(([127, 0, 0, 1], 80))
    );
    assert_eq!(value::<Vec<u16>>("a = [1, 2]", "a"), [1, 2]);
    assert_eq!(value::<Vec<String>>("a = 'x, y'", "a"), ["x", "y"]);
    assert_eq!(value::<SecretString>("a = 'x'", "a").expose_secret(), "x");
    let table = value::<BTreeMap<String, u32>>("[a.b]\nfree = 10\npro = 100", "a.b");
    assert_eq!(
        table,
        BTreeMap::from([("free".to_owned(), 10), ("pro".to_owned(), 100)])
    );
}

#[test]
fn each_type_is_read_from_a_variable() {
    let environment = || Environment::from([("AUTHSOME_LIST", "1, 2,"), ("AUTHSOME_MAP", "free=10, pro=100")]);
    let list = Reader::new(None, environment()).finish(|reader| reader.required::<Vec<u16>>("list"));
    assert_eq!(list, Ok(vec![1, 2]));
    let map = Reader::new(None, environment()).finish(|reader| reader.required::<BTreeMap<String, u16>>("map"));
    assert_eq!(
        map,
        Ok(BTreeMap::from([("free".to_owned(), 10), ("pro".to_owned(), 100)]))
    );
}

#[test]
fn sealing_keys_are_read_from_a_list_or_from_the_older_single_variable() {
    let rotated: PlatformRing = value(&format!("[encryption]\nkey = ['2:{KEY}', '1:{KEY}']"), "encryption.key");
    assert_eq!(rotated.active_key(), 2);
    let single = Reader::new(None, [("ENCRYPTION_KEY", KEY)].into())
        .finish(|reader| reader.required::<PlatformRing>("encryption.key"))
        .unwrap();
    assert_eq!(single.active_key(), 1);
}

#[test]
fn bytes_that_are_not_utf8_are_refused() {
    let errors = Reader::new(None, [("AUTHSOME_NAME", "a\u{FFFD}")].into())
        .finish(|reader| reader.required::<String>("name"))
        .unwrap_err();
    assert_eq!(errors.problems().len(), 1);
    assert!(errors.problems()[0].message.ends_with("is not valid UTF-8"));
}

#[test]
fn a_variable_is_named_after_its_key() {
    assert_eq!(variable_of("database.url"), "AUTHSOME_DATABASE_URL");
    assert_eq!(variable_of("edge.max-staleness"), "AUTHSOME_EDGE_MAX_STALENESS");
}

#[test]
fn the_verdict_is_printed_and_is_the_exit_code() {
    let mut reader = Reader::new(None, Environment::default());
    assert_eq!(reader.source("a"), Source::Default);
    reader.alias("a", "A");
    let errors = reader.finish(|reader| reader.required::<u16>("a")).unwrap_err();

    let verdict = |check, result: Result<u16, ConfigErrors>| {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let verdict = ConfigArgs { file: None, check }.conclude(result, &mut out, &mut err);
        (
            verdict,
            String::from_utf8(out).unwrap(),
            String::from_utf8(err).unwrap(),
        )
    };
    assert_eq!(verdict(false, Ok(7)), (Ok(7), String::new(), String::new()));
    assert_eq!(
        verdict(true, Ok(7)),
        (Err(ExitCode::SUCCESS), "configuration OK\n".to_owned(), String::new())
    );
    for check in [false, true] {
        let (code, out, err) = verdict(check, Err(errors.clone()));
        assert_eq!((code, out.as_str()), (Err(ExitCode::from(2)), ""));
        assert_eq!(
            err,
            "configuration error\na: required; set it in the file or in AUTHSOME_A or A\n"
        );
    }
}
