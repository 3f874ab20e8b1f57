//! An OCI image layout in a tar archive, with Docker's own manifest beside it for engines that read no layout.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use aws_lc_rs::digest::{SHA256, digest};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};

use super::{Image, Recipe, elf, reference};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Writes the archive of a recipe, into place when it is whole.
pub(super) fn write(recipe: &Recipe, out: &Path) -> Result<Image> {
    let program = std::fs::read(&recipe.program)
        .with_context(|| format!("reading the program {}: is it built?", recipe.program.display()))?;
    let architecture =
        elf::architecture(&program).with_context(|| format!("taking {} for an image", recipe.program.display()))?;
    let name = recipe.program.file_name().and_then(|name| name.to_str());
    let name = name.context("the program has no name in UTF-8")?;
    let (whole, tag) = reference::complete(&recipe.reference)?;

    let files = tar(&[(name, &program, 0o755)])?;
    let layer = Blob::new(LAYER, packed(&files)?);
    let config = Blob::new(
        CONFIG,
        text(&configuration(recipe, name, architecture, &sha256(&files))?),
    );
    let annotations = annotations(recipe)?;
    let manifest = Blob::new(MANIFEST, text(&manifest(&config, &layer, &annotations)));
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": MANIFEST,
            "digest": manifest.digest,
            "size": manifest.bytes.len(),
            "platform": {"architecture": architecture, "os": "linux"},
            "annotations": {
                "io.containerd.image.name": whole,
                "org.opencontainers.image.ref.name": tag,
                "org.opencontainers.image.created": annotations["org.opencontainers.image.created"],
            },
        }],
    });
    let docker = json!([{"Config": config.path(), "RepoTags": [recipe.reference], "Layers": [layer.path()]}]);

    let mut blobs = [&layer, &config, &manifest].map(|blob| (blob.path(), blob.bytes.as_slice(), 0o644));
    blobs.sort();
    let (index, docker) = (text(&index), text(&docker));
    let mut entries: Vec<(&str, &[u8], u32)> = blobs
        .iter()
        .map(|(path, bytes, mode)| (&**path, *bytes, *mode))
        .collect();
    entries.push(("index.json", &index, 0o644));
    entries.push(("manifest.json", &docker, 0o644));
    entries.push(("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644));
    let unfinished = out.with_extension("unfinished");
    std::fs::write(&unfinished, tar(&entries)?).with_context(|| format!("writing {}", unfinished.display()))?;
    std::fs::rename(&unfinished, out).with_context(|| format!("moving {} into place", out.display()))?;

    let bytes = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    Ok(Image {
        reference: whole,
        path: out.to_owned(),
        program_bytes: bytes(program.len()),
        image_bytes: bytes(layer.bytes.len() + config.bytes.len() + manifest.bytes.len()),
        digest: manifest.digest,
    })
}

/// A piece of an image, under its digest.
struct Blob {
    kind: &'static str,
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(kind: &'static str, bytes: Vec<u8>) -> Self {
        let digest = sha256(&bytes);
        Self { kind, digest, bytes }
    }

    fn path(&self) -> String {
        format!("blobs/{}", self.digest.replace(':', "/"))
    }

    fn descriptor(&self) -> Value {
        json!({"mediaType": self.kind, "digest": self.digest, "size": self.bytes.len()})
    }
}

fn configuration(recipe: &Recipe, program: &str, architecture: &str, files: &str) -> Result<Value> {
    let created = created(recipe)?;
    Ok(json!({
        "created": created,
        "architecture": architecture,
        "os": "linux",
        "config": {
            "User": recipe.user,
            "Entrypoint": [format!("/{program}")],
            "WorkingDir": "/",
            "Labels": annotations(recipe)?,
        },
        "rootfs": {"type": "layers", "diff_ids": [files]},
        "history": [{"created": created, "created_by": format!("COPY {program} /")}],
    }))
}

fn manifest(config: &Blob, layer: &Blob, annotations: &BTreeMap<String, String>) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor(),
        "layers": [layer.descriptor()],
        "annotations": annotations,
    })
}

/// The labels and when it was made: the same in configuration and manifest, for some tools read only one of them.
fn annotations(recipe: &Recipe) -> Result<BTreeMap<String, String>> {
    let mut labels = recipe.labels.clone();
    labels.insert("org.opencontainers.image.created".to_owned(), created(recipe)?);
    Ok(labels)
}

fn created(recipe: &Recipe) -> Result<String> {
    let time = jiff::Timestamp::from_second(recipe.created)
        .with_context(|| format!("{} is not a time in seconds since 1970", recipe.created))?;
    Ok(time.to_string())
}

/// An archive whose bytes follow from names, modes and contents alone.
fn tar(entries: &[(&str, &[u8], u32)]) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, bytes, mode) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_size(u64::try_from(bytes.len())?);
        header.set_mode(*mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        archive
            .append_data(&mut header, path, *bytes)
            .with_context(|| format!("packing {path}"))?;
    }
    archive.into_inner().context("ending an archive")
}

/// Packed without a time or a name in the header.
fn packed(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut packer = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    packer.write_all(bytes).context("packing the layer")?;
    packer.finish().context("packing the layer")
}

fn text(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn sha256(bytes: &[u8]) -> String {
    let hash = digest(&SHA256, bytes);
    format!("sha256:{}", data_encoding::HEXLOWER.encode(hash.as_ref()))
}
