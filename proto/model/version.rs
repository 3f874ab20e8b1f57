//! Versions: hashes of content. Same content, same version, on every hub replica and after every restart.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};

use super::Key;

/// Bytes of a version on the wire: the first half of a SHA-256.
const LENGTH: usize = 16;

/// Hash of an object's canonical content. Made by the side that owns the content, opaque to the other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version([u8; LENGTH]);

/// Hash over a lane's sorted keys and versions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneHash([u8; LENGTH]);

macro_rules! sixteen_bytes {
    ($name:ident) => {
        impl $name {
            /// Takes 16 bytes from the wire; anything else is no such value.
            #[must_use]
            pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// The 16 bytes for the wire.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }

            /// Reads back what `Display` wrote: 32 hexadecimal digits.
            #[must_use]
            pub fn from_hex(text: &str) -> Option<Self> {
                if text.len() != 2 * LENGTH || !text.is_ascii() {
                    return None;
                }
                let mut bytes = [0; LENGTH];
                for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
                    *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
                }
                Some(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

sixteen_bytes!(Version);
sixteen_bytes!(LaneHash);

/// Feeds content to a hash so that no two different contents can read alike: every part carries its length.
pub struct Canonical(Context);

impl Canonical {
    /// Starts a hash for one kind of content; the kind keeps equal bytes of different kinds apart.
    #[must_use]
    pub fn new(kind: &str) -> Self {
        Self(Context::new(&SHA256)).text(kind)
    }

    /// Adds a text.
    #[must_use]
    pub fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    /// Adds bytes.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let mut this = self.number(bytes.len() as u64);
        this.0.update(bytes);
        this
    }

    /// Adds a number.
    #[must_use]
    pub fn number(mut self, number: u64) -> Self {
        self.0.update(&number.to_be_bytes());
        self
    }

    fn finish(self) -> [u8; LENGTH] {
        let mut half = [0; LENGTH];
        half.copy_from_slice(&self.0.finish().as_ref()[..LENGTH]);
        half
    }

    /// The version of what was added.
    #[must_use]
    pub fn version(self) -> Version {
        Version(self.finish())
    }
}

/// The hash of a lane that holds these objects. `objects` must come sorted by key, as from a `BTreeMap`.
#[must_use]
pub fn lane_hash<'a>(objects: impl IntoIterator<Item = (&'a Key, Version)>) -> LaneHash {
    let canonical = objects
        .into_iter()
        .fold(Canonical::new("lane"), |canonical, (key, version)| {
            canonical.text(&key.to_string()).bytes(version.as_bytes())
        });
    LaneHash(canonical.finish())
}
