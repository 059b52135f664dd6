//! The fuzzer: it looks for bytes that make that target fail whose name is in the variable `TARGET`.
#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<String> = LazyLock::new(|| std::env::var("TARGET").expect("TARGET names what is tried"));

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile::run(&TARGET, data));
