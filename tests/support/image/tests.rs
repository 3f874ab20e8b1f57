//! Archives are read back with other code than wrote them, and taken apart by their digests.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::elf::tests::program;
use super::{Image, PROGRAMS, Recipe, USER, archive, described};

type Files = BTreeMap<String, Vec<u8>>;

struct Workshop(tempfile::TempDir);

impl Workshop {
    fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    fn program(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes)?;
        Ok(path)
    }

    fn out(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn unpacked(bytes: &[u8]) -> Result<Files> {
    let mut files = Files::new();
    for entry in tar::Archive::new(bytes).entries()? {
        let mut entry = entry?;
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        files.insert(entry.path()?.display().to_string(), content);
    }
    Ok(files)
}

fn sha256(bytes: &[u8]) -> String {
    format!(
        "sha256:{}",
        data_encoding::HEXLOWER.encode(digest(&SHA256, bytes).as_ref())
    )
}

/// The blob that a descriptor names, held to its size and digest.
fn blob<'a>(files: &'a Files, descriptor: &Value) -> Result<&'a [u8]> {
    let name = descriptor["digest"].as_str().context("a descriptor has a digest")?;
    let bytes = files
        .get(&format!("blobs/{}", name.replace(':', "/")))
        .with_context(|| format!("there is no blob {name}"))?;
    assert_eq!(sha256(bytes), name);
    assert_eq!(descriptor["size"], bytes.len());
    Ok(bytes)
}

/// Manifest, configuration and unpacked layer of an archive with one image.
fn read(image: &Image) -> Result<(Value, Value, Vec<u8>)> {
    let files = unpacked(&std::fs::read(&image.path)?)?;
    assert_eq!(files["oci-layout"], br#"{"imageLayoutVersion":"1.0.0"}"#);
    let index: Value = serde_json::from_slice(&files["index.json"])?;
    let entry = &index["manifests"][0];
    assert_eq!(entry["digest"], image.digest);
    let manifest: Value = serde_json::from_slice(blob(&files, entry)?)?;
    let config: Value = serde_json::from_slice(blob(&files, &manifest["config"])?)?;
    let mut layer = Vec::new();
    flate2::read::GzDecoder::new(blob(&files, &manifest["layers"][0])?).read_to_end(&mut layer)?;
    assert_eq!(config["rootfs"]["diff_ids"], json!([sha256(&layer)]));
    assert_eq!(files.len(), 6, "nothing else is in it: {:?}", files.keys());
    Ok((manifest, config, layer))
}

#[test]
fn archive_of_the_same_program_is_the_same_bytes() -> Result<()> {
    let (first, second) = (Workshop::new()?, Workshop::new()?);
    let bytes = program(62, 1);
    let made = archive("hub:1", &first.program("hub", &bytes)?, &first.out("a.tar"))?;
    let again = archive("hub:1", &second.program("hub", &bytes)?, &second.out("b.tar"))?;
    assert_eq!(std::fs::read(&made.path)?, std::fs::read(&again.path)?);
    let other = archive("hub:1", &second.program("hub", &program(183, 1))?, &second.out("b.tar"))?;
    assert_ne!(made.digest, other.digest);
    Ok(())
}

#[test]
fn layer_holds_the_program_and_nothing_else() -> Result<()> {
    let workshop = Workshop::new()?;
    let bytes = program(62, 1);
    let image = archive("hub:1", &workshop.program("hub", &bytes)?, &workshop.out("hub.tar"))?;
    let (_, _, layer) = read(&image)?;
    let mut archive = tar::Archive::new(layer.as_slice());
    let mut entries = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        let header = entry.header();
        let path = entry.path()?.into_owned();
        entries.push((
            path,
            header.mode()?,
            header.uid()?,
            header.gid()?,
            header.mtime()?,
            content,
        ));
    }
    assert_eq!(entries, [(PathBuf::from("hub"), 0o755, 0, 0, 0, bytes)]);
    Ok(())
}

#[test]
fn runtimes_find_name_user_entrypoint_and_labels() -> Result<()> {
    let workshop = Workshop::new()?;
    let program = workshop.program("hub", &program(183, 1))?;
    let recipe = Recipe::new("hub:0.1.0", &program)
        .created(1_700_000_000)
        .label("title", "hub");
    let image = recipe.write(&workshop.out("hub.tar"))?;
    let (manifest, config, _) = read(&image)?;
    let labels = json!({
        "org.opencontainers.image.created": "2023-11-14T22:13:20Z",
        "org.opencontainers.image.title": "hub",
    });
    assert_eq!(
        config["config"],
        json!({"User": USER, "Entrypoint": ["/hub"], "WorkingDir": "/", "Labels": labels})
    );
    assert_eq!(manifest["annotations"], labels);
    assert_eq!(
        (&config["architecture"], &config["os"]),
        (&json!("arm64"), &json!("linux"))
    );
    assert_eq!(config["created"], "2023-11-14T22:13:20Z");

    let files = unpacked(&std::fs::read(&image.path)?)?;
    let index: Value = serde_json::from_slice(&files["index.json"])?;
    let annotations = &index["manifests"][0]["annotations"];
    assert_eq!(annotations["io.containerd.image.name"], "docker.io/library/hub:0.1.0");
    assert_eq!(annotations["org.opencontainers.image.ref.name"], "0.1.0");
    let docker: Value = serde_json::from_slice(&files["manifest.json"])?;
    assert_eq!(docker[0]["RepoTags"], json!(["hub:0.1.0"]));
    for path in [&docker[0]["Config"], &docker[0]["Layers"][0]] {
        assert!(files.contains_key(path.as_str().context("a path")?), "{path}");
    }
    Ok(())
}

#[test]
fn what_cannot_be_an_image_is_refused_with_the_reason() -> Result<()> {
    let workshop = Workshop::new()?;
    let good = workshop.program("hub", &program(62, 1))?;
    let script = workshop.program("script", b"#!/bin/sh\n")?;
    let (missing, running) = (workshop.out("missing"), std::env::current_exe()?);
    let nowhere = workshop.out("no/folder/hub.tar");
    let out = workshop.out("hub.tar");
    for (reference, program, out, reason) in [
        ("hub:1", &missing, &out, "is it built?"),
        ("hub:1", &script, &out, "not a 64-bit"),
        ("hub:1", &running, &out, "linked dynamically"),
        ("hub", &good, &out, "has no tag"),
        ("hub:1", &good, &nowhere, "no/folder"),
    ] {
        let error = archive(reference, program, out).expect_err("it must be refused");
        assert!(format!("{error:#}").contains(reason), "{reason}: {error:#}");
    }
    assert!(!out.exists(), "nothing is left of what was refused");
    Ok(())
}

/// No engine runs here: the file is held to the archives by its words.
#[test]
fn dockerfile_says_the_same_as_the_archives() -> Result<()> {
    let file = std::fs::read_to_string(super::root().join("deploy/Dockerfile"))?;
    let (build, _) = file.split_once("\nFROM scratch").context("a stage for each image")?;
    assert!(build.contains("\nRUN deploy/build-static /build\n"));
    let rust = env!("CARGO_PKG_RUST_VERSION");
    assert!(build.contains(&format!("\nFROM rust:{rust}-bookworm AS build\n")));
    for (name, description) in PROGRAMS {
        let start = file.find(&format!("\nFROM scratch AS {name}\n")).context(name)?;
        let stage = &file[start + 1..];
        let stage = stage.find("\nFROM ").map_or(stage, |end| &stage[..end]);
        let lines: Vec<&str> = stage
            .lines()
            .map(|line| line.trim_start_matches("LABEL").trim().trim_end_matches(" \\"))
            .collect();
        for line in [
            format!("COPY --from=build /build/programs/{name} /"),
            format!("USER {USER}"),
            "WORKDIR /".to_owned(),
            format!("ENTRYPOINT [\"/{name}\"]"),
        ] {
            assert!(lines.contains(&&*line), "{name}: {line}");
        }
        let recipe = described(name, description, Path::new(name));
        let fixed = recipe
            .labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{value}\""));
        let labels: Vec<String> = lines
            .iter()
            .filter(|line| line.starts_with("org.") && !line.contains('$'))
            .map(ToString::to_string)
            .collect();
        let mut expected: Vec<String> = fixed.collect();
        let mut found = labels;
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "{name}");
        for given in ["revision=\"$REVISION\"", "created=\"$CREATED\""] {
            assert!(
                lines.contains(&&*format!("org.opencontainers.image.{given}")),
                "{name}: {given}"
            );
        }
    }
    Ok(())
}
