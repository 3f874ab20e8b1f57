//! What the static programs are made of, as one digest: where it is the last build's, nothing is built.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::digest::{Context, SHA256};

/// All that hub and agent are compiled from. A test sees that they include nothing else.
const PLACES: [&str; 7] = [
    "Cargo.toml",
    "Cargo.lock",
    "build.rs",
    "deploy/build-static",
    "proto",
    "hub",
    "agent",
];

/// The digest of all sources and of the compiler: the same in every clone of the same commit.
pub(super) fn digest(root: &Path) -> Result<String> {
    let compiler = Command::new("rustc").arg("-vV").output().context("running rustc")?;
    ensure!(compiler.status.success(), "rustc does not say its version");
    let mut digest = Context::new(&SHA256);
    let mut add = |bytes: &[u8]| {
        digest.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(bytes);
    };
    add(&compiler.stdout);
    for path in files(root)? {
        let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let name = path.strip_prefix(root).unwrap_or(&path);
        add(name.as_os_str().as_encoded_bytes());
        add(&bytes);
    }
    Ok(data_encoding::HEXLOWER.encode(digest.finish().as_ref()))
}

/// Every file in [`PLACES`], in order.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut open: Vec<PathBuf> = PLACES.iter().map(|place| root.join(place)).collect();
    let mut found = Vec::new();
    while let Some(path) = open.pop() {
        if !path.is_dir() {
            found.push(path);
            continue;
        }
        let entries = std::fs::read_dir(&path).with_context(|| format!("listing {}", path.display()))?;
        for entry in entries {
            open.push(entry.with_context(|| format!("listing {}", path.display()))?.path());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree with an empty file in every place, and a folder where there is one.
    fn tree() -> Result<tempfile::TempDir> {
        let root = tempfile::tempdir()?;
        for place in ["deploy", "proto", "hub/src", "agent"] {
            std::fs::create_dir_all(root.path().join(place))?;
        }
        for file in PLACES.iter().filter(|place| place.contains(['.', '/'])) {
            std::fs::write(root.path().join(file), "")?;
        }
        Ok(root)
    }

    #[test]
    fn clones_of_the_same_sources_have_the_same_digest() -> Result<()> {
        assert_eq!(digest(tree()?.path())?, digest(tree()?.path())?);
        Ok(())
    }

    #[test]
    fn changed_moved_and_new_files_change_the_digest() -> Result<()> {
        let root = tree()?;
        let path = |name: &str| root.path().join(name);
        let mut seen = vec![digest(root.path())?];
        std::fs::write(path("hub/src/main.rs"), "a")?;
        seen.push(digest(root.path())?);
        std::fs::write(path("hub/src/main.rs"), "b")?;
        seen.push(digest(root.path())?);
        std::fs::rename(path("hub/src/main.rs"), path("hub/src/other.rs"))?;
        seen.push(digest(root.path())?);
        std::fs::write(path("deploy/build-static"), "#!/bin/sh")?;
        seen.push(digest(root.path())?);
        let count = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), count);
        Ok(())
    }

    #[test]
    fn a_missing_place_is_named() -> Result<()> {
        let root = tree()?;
        std::fs::remove_file(root.path().join("build.rs"))?;
        let error = digest(root.path()).expect_err("a file is missing");
        assert!(format!("{error:#}").contains("build.rs"), "{error:#}");
        Ok(())
    }

    /// What they include from elsewhere would change the programs and not the digest.
    #[test]
    fn programs_include_nothing_from_elsewhere() -> Result<()> {
        let root = super::super::root();
        for path in files(&root)? {
            let name = path.strip_prefix(&root)?.display().to_string();
            if path.extension().is_none_or(|extension| extension != "rs") || name.contains("tests") {
                continue;
            }
            let text = std::fs::read_to_string(&path)?;
            for (_, rest) in text.match_indices("include_").map(|(at, _)| text.split_at(at)) {
                let argument = rest.split_once('(').map_or("", |(_, rest)| rest);
                let outside = argument.starts_with("\"..") || argument.starts_with("concat!(env!(\"CARGO_MANIFEST");
                assert!(!outside, "{name} includes {}", argument.lines().next().unwrap_or(""));
            }
        }
        Ok(())
    }
}
