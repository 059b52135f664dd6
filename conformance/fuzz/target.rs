//! Every fuzzer: it looks for bytes that make the target fail whose name the program has.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile::run(env!("CARGO_BIN_NAME"), data));
