#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| authsome_proxy::fuzz::paths(input));
