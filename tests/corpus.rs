//! Replays what fuzzing kept (`make fuzz`) through the same targets, so that what once was mended stays so.

#[path = "fuzz/seeds.rs"]
mod seeds;
#[path = "fuzz/targets.rs"]
mod targets;

use std::fs;
use std::path::{Path, PathBuf};

use seeds::seeds;
use targets::TARGETS;

/// All corpora together, bytes: they are in the repository.
const CORPORA_MAX_BYTES: u64 = 512 * 1024;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

fn inputs(target: &str) -> Vec<PathBuf> {
    let folder = corpus(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("no corpus in {}: {error}", folder.display()));
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

#[test]
fn every_kept_input_goes_through_its_target_and_some_are_accepted() {
    for (name, target) in TARGETS {
        let mut accepted = 0;
        for path in inputs(name) {
            let data = fs::read(&path).expect("an input can be read");
            // A failure names no input by itself.
            let Ok(taken) = std::panic::catch_unwind(|| target(&data)) else {
                panic!("target {name} fails on {}", path.display());
            };
            accepted += usize::from(taken);
        }
        assert!(
            accepted > 0,
            "target {name} accepts nothing of its corpus: it no longer tests what it reads"
        );
    }
}

#[test]
fn fresh_messages_are_what_the_targets_read() {
    let seeds = seeds();
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        seeds.keys().copied().collect::<Vec<_>>(),
        names,
        "each target has seeds"
    );
    for (name, target) in TARGETS {
        let (what, data) = seeds[name].first().expect("a seed");
        assert!(target(data), "target {name} does not accept {what}");
        for (_, data) in &seeds[name] {
            target(data);
        }
    }
}

#[test]
fn corpora_stay_small_and_each_belongs_to_a_target() {
    let folder = corpus("");
    let known = |path: &PathBuf| TARGETS.iter().any(|(name, _)| path.ends_with(name));
    let folders = fs::read_dir(folder).expect("the corpora");
    let strange: Vec<PathBuf> = folders
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| !known(path))
        .collect();
    assert_eq!(
        strange,
        Vec::<PathBuf>::new(),
        "a corpus without a target is never replayed"
    );
    let size = |path: &PathBuf| fs::metadata(path).expect("an input").len();
    let all: u64 = TARGETS
        .iter()
        .flat_map(|(name, _)| inputs(name))
        .map(|path| size(&path))
        .sum();
    assert!(all <= CORPORA_MAX_BYTES, "{all} bytes: `make fuzz` keeps them small");
}

#[test]
#[ignore = "writes tests/fuzz/corpus anew: run it by `make fuzz-seeds`"]
fn seeds_are_written() {
    for (target, seeds) in seeds() {
        let folder = corpus(target);
        fs::create_dir_all(&folder).expect("a folder for the corpus");
        for (what, data) in seeds {
            fs::write(folder.join(what), data).expect("a seed can be written");
        }
    }
}
