//! Roots of the mesh as central keeps them: the one above the CA that signs now, and those of earlier ones, which stay
//! trusted until a person forgets them. Pure.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::digest;
use jiff::Timestamp;
use remote_istio::enrolment::{Pin, certificate_pem, hex};
use remote_istio::limits;
use remote_istio::wire::v1;
use rustls::pki_types::CertificateDer;

use crate::authority::certificate::certificates;

/// The `ConfigMap`, in the hub's namespace. Certificates only.
pub const MESH_TRUST_CONFIG_MAP: &str = "remote-istio-mesh-trust";

/// Entry: the pin of the CA that signs.
const SIGNER: &str = "signer";
/// Entry: the fingerprint of the root above it.
const SIGNER_ROOT: &str = "signer-root";
/// Entries of a root: its certificate, and since when it is trusted.
const ROOT_PREFIX: &str = "root-";
const CERTIFICATE_SUFFIX: &str = ".pem";
const SINCE_SUFFIX: &str = ".since";

/// SHA-256 of a certificate, as `openssl x509 -fingerprint -sha256` shows it but for case and colons.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a certificate, DER.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One root that the mesh trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshRoot {
    /// Names it.
    pub fingerprint: Fingerprint,
    /// The root itself.
    pub certificate: CertificateDer<'static>,
    /// When the hub first saw it; the beginning of 1970 where that cannot be read.
    pub since: Timestamp,
}

/// What the mesh trusts, as all replicas of the hub have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeshRoots {
    /// The CA that signs.
    pub signer: Option<Pin>,
    /// The root above it.
    pub signer_root: Option<Fingerprint>,
    /// All that are trusted: the one above the signer first, then the newest.
    pub roots: Vec<MeshRoot>,
}

impl MeshRoots {
    /// Of the data of the `ConfigMap`. What cannot be read is left out.
    #[must_use]
    pub fn read(data: &BTreeMap<String, String>) -> Self {
        let mut read = Self {
            signer: data.get(SIGNER).and_then(|text| text.trim().parse().ok()),
            signer_root: None,
            roots: data
                .iter()
                .filter_map(|(entry, text)| root(data, entry, text))
                .collect(),
        };
        let above = data.get(SIGNER_ROOT).map(|text| text.trim());
        let above = read
            .roots
            .iter()
            .find(|root| Some(root.fingerprint.to_string().as_str()) == above);
        read.signer_root = above.map(|root| root.fingerprint);
        read.sort();
        read
    }

    /// As the data of the `ConfigMap`.
    #[must_use]
    pub fn write(&self) -> BTreeMap<String, String> {
        let mut data = BTreeMap::new();
        if let Some(signer) = self.signer {
            data.insert(SIGNER.to_owned(), signer.to_string());
        }
        if let Some(root) = self.signer_root {
            data.insert(SIGNER_ROOT.to_owned(), root.to_string());
        }
        for root in &self.roots {
            let entry = format!("{ROOT_PREFIX}{}", root.fingerprint);
            data.insert(
                format!("{entry}{CERTIFICATE_SUFFIX}"),
                certificate_pem(&root.certificate),
            );
            data.insert(format!("{entry}{SINCE_SUFFIX}"), root.since.to_string());
        }
        data
    }

    /// With a CA that signs from now on, and the roots that came with it: the one above it first.
    #[must_use]
    pub fn with(&self, signer: Pin, roots: &[CertificateDer<'static>], now: Timestamp) -> Self {
        let mut with = self.clone();
        with.signer = Some(signer);
        with.signer_root = roots.first().map(|root| Fingerprint::of(root));
        with.add(roots, now);
        with
    }

    /// With these roots trusted too.
    pub fn add(&mut self, roots: &[CertificateDer<'static>], now: Timestamp) {
        for root in roots {
            let fingerprint = Fingerprint::of(root);
            if !self.roots.iter().any(|known| known.fingerprint == fingerprint) {
                self.roots.push(MeshRoot {
                    fingerprint,
                    certificate: root.clone(),
                    since: Timestamp::from_second(now.as_second()).unwrap_or(now),
                });
            }
        }
        self.sort();
    }

    /// Whether all these are trusted.
    #[must_use]
    pub fn holds(&self, roots: &[CertificateDer<'static>]) -> bool {
        roots
            .iter()
            .all(|root| self.roots.iter().any(|known| known.certificate == *root))
    }

    /// What remotes are told; nothing as long as no CA was found.
    #[must_use]
    pub fn trust(&self) -> Option<v1::MeshTrust> {
        let (signer, _) = (self.signer?, self.signer_root?);
        let told = self.roots.iter().take(limits::MESH_ROOTS);
        Some(v1::MeshTrust {
            signer: signer.as_bytes().to_vec(),
            roots: told.map(|root| root.certificate.to_vec()).collect(),
        })
    }

    /// The order is the same wherever the same is kept, for it counts in what remotes are told.
    fn sort(&mut self) {
        let above = self.signer_root;
        self.roots.sort_by_key(|root| {
            let is_above = Some(root.fingerprint) == above;
            (!is_above, std::cmp::Reverse(root.since), root.fingerprint)
        });
    }
}

fn root(data: &BTreeMap<String, String>, entry: &str, text: &str) -> Option<MeshRoot> {
    let name = entry.strip_prefix(ROOT_PREFIX)?.strip_suffix(CERTIFICATE_SUFFIX)?;
    let certificate = certificates(text.as_bytes()).ok()?.into_iter().next()?;
    let fingerprint = Fingerprint::of(&certificate);
    let is_named_so = fingerprint.to_string() == name && certificate.len() <= limits::CERTIFICATE_MAX_BYTES;
    let since = data.get(&format!("{ROOT_PREFIX}{name}{SINCE_SUFFIX}"));
    is_named_so.then(|| MeshRoot {
        fingerprint,
        certificate,
        since: since.and_then(|text| text.trim().parse().ok()).unwrap_or_default(),
    })
}
