//! One fuzzer for all targets: the environment variable `FUZZ_TARGET` names the one to run. `make fuzz` builds it with
//! coverage and runs each for a while; `tests/corpus.rs` replays what it kept.

#![no_main]

mod targets;

use std::sync::OnceLock;

use targets::{TARGETS, Target};

static TARGET: OnceLock<Target> = OnceLock::new();

fn chosen() -> Target {
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    match TARGETS.iter().find(|(known, _)| *known == name) {
        Some((_, target)) => *target,
        None => {
            eprintln!("FUZZ_TARGET is {name:?}: it must be one of {}", names.join(", "));
            std::process::exit(64);
        }
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    TARGET.get_or_init(chosen)(data);
});
