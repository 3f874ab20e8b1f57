//! Container images without an engine: one static program in an OCI archive, and nothing else.

mod archive;
mod elf;
mod programs;
mod reference;
mod sources;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// What a node fetches of an image stays below, in bytes.
pub const SIZE_LIMIT: u64 = 20_000_000;

/// Who the programs run as: the user that distroless images call nonroot.
const USER: &str = "65532:65532";

/// The two programs with what their images say of themselves.
const PROGRAMS: [(&str, &str); 2] = [
    (
        "remote-istio-hub",
        "Watches the central cluster and streams to every remote what it should hold",
    ),
    (
        "remote-istio-agent",
        "Keeps one remote cluster as the hub says it should be, with or without the hub",
    ),
];

/// An image in an OCI archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its whole name with the tag, as a kubelet asks its runtime for it.
    pub reference: String,
    /// The archive.
    pub path: PathBuf,
    /// The manifest's digest, `sha256:…`.
    pub digest: String,
    /// The program in it, in bytes.
    pub program_bytes: u64,
    /// What a registry holds of it and a node fetches: layer, configuration and manifest, in bytes.
    pub image_bytes: u64,
}

/// The images of this tree.
#[derive(Debug, Clone)]
pub struct Images {
    /// `target/images/remote-istio-hub.tar`.
    pub hub: Image,
    /// `target/images/remote-istio-agent.tar`.
    pub agent: Image,
}

/// Builds hub and agent as static programs where they are stale, and their images; says on standard error what takes
/// long.
///
/// # Errors
/// A build fails, a folder cannot be written, or an image has grown over [`SIZE_LIMIT`].
pub fn build() -> Result<Images> {
    let root = root();
    let folder = root.join("target/images");
    std::fs::create_dir_all(&folder).with_context(|| format!("making the folder {}", folder.display()))?;
    let built = programs::build(&root)?;
    let (revision, created) = programs::revision(&root)?;
    let [hub, agent] = PROGRAMS.map(|(name, description)| {
        let recipe = described(name, description, &built.program(name)).created(created);
        let recipe = match &revision {
            Some(revision) => recipe.label("revision", revision),
            None => recipe,
        };
        let image = recipe.write(&folder.join(format!("{name}.tar")))?;
        ensure!(
            image.image_bytes < SIZE_LIMIT,
            "the image of {name} has {} bytes, {SIZE_LIMIT} are the limit: find out what it has grown by, as with \
             `cargo tree --package {name} --edges normal`",
            image.image_bytes
        );
        Ok(image)
    });
    Ok(Images {
        hub: hub?,
        agent: agent?,
    })
}

/// The image of any static program: named `reference`, started as user 65532 without arguments.
///
/// # Errors
/// As [`Recipe::write`].
pub fn archive(reference: &str, program: &Path, out: &Path) -> Result<Image> {
    Recipe::new(reference, program).write(out)
}

/// What an image is made of.
#[derive(Debug, Clone)]
pub struct Recipe {
    reference: String,
    program: PathBuf,
    user: String,
    created: i64,
    labels: BTreeMap<String, String>,
}

impl Recipe {
    /// An image of one program, which is its entrypoint.
    #[must_use]
    pub fn new(reference: &str, program: &Path) -> Self {
        Self {
            reference: reference.to_owned(),
            program: program.to_owned(),
            user: USER.to_owned(),
            created: 0,
            labels: BTreeMap::new(),
        }
    }

    /// Runs it as another user, `UID:GID`.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        user.clone_into(&mut self.user);
        self
    }

    /// When it was made, in seconds since 1970: never the clock's time, which would make each archive another.
    #[must_use]
    pub fn created(mut self, seconds: i64) -> Self {
        self.created = seconds;
        self
    }

    /// A label of the image specification, without `org.opencontainers.image.`.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels
            .insert(format!("org.opencontainers.image.{name}"), value.to_owned());
        self
    }

    /// Writes the archive; the same recipe gives the same bytes.
    ///
    /// # Errors
    /// The program is missing, not an executable or not static, the reference is not one with a tag, or `out` cannot be
    /// written.
    pub fn write(&self, out: &Path) -> Result<Image> {
        archive::write(self, out).with_context(|| format!("making the image {} as {}", self.reference, out.display()))
    }
}

/// One of this tree's programs with the labels that do not change from commit to commit.
fn described(name: &str, description: &str, program: &Path) -> Recipe {
    let version = env!("CARGO_PKG_VERSION");
    Recipe::new(&format!("{name}:{version}"), program)
        .label("title", name)
        .label("description", description)
        .label("version", version)
        .label("licenses", "Apache-2.0")
}

/// The workspace.
fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_owned()
}
