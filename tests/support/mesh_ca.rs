//! CAs of the mesh as Istio and people put them on central, leaves as Citadel signs them, and what OpenSSL says of them:
//! it is the one judge here that neither end is built on.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

/// A CA of the mesh: what its Secret holds.
#[derive(Debug, Clone)]
pub struct MeshCa {
    /// The CA's certificate, PEM.
    pub certificate: String,
    /// Its key, as Citadel writes it: RSA, PKCS #1, PEM.
    pub key: String,
    /// From the CA to the root, without it, PEM; empty for a self-signed one.
    pub chain: String,
    /// The root, PEM.
    pub root: String,
}

impl MeshCa {
    /// As Citadel makes one for itself.
    ///
    /// # Errors
    /// OpenSSL is missing, or fails.
    pub fn self_signed(name: &str) -> Result<Self> {
        let folder = Folder::create()?;
        let key = folder.key("ca.key")?;
        let certificate = folder.root("ca", name)?;
        Ok(Self {
            root: certificate.clone(),
            certificate,
            key,
            chain: String::new(),
        })
    }

    /// An intermediate below a root whose key is elsewhere, with this path length constraint, as a person plugs it in.
    ///
    /// # Errors
    /// OpenSSL is missing, or fails.
    pub fn plugged_in(name: &str, path_length: Option<u8>) -> Result<Self> {
        let folder = Folder::create()?;
        folder.key("root.key")?;
        let root = folder.root("root", &format!("root of {name}"))?;
        let key = folder.key("ca.key")?;
        let limit = path_length.map_or_else(String::new, |length| format!(",pathlen:{length}"));
        let extensions = format!("basicConstraints=critical,CA:TRUE{limit}\nkeyUsage=critical,keyCertSign,cRLSign\n");
        let certificate = folder.signed("ca", &format!("/O=mesh/CN={name}"), "root", &extensions)?;
        Ok(Self {
            chain: certificate.clone(),
            certificate,
            key,
            root,
        })
    }

    /// The keys of its Secret, by Istio's names: all four where it is plugged in, else the two that Citadel writes.
    #[must_use]
    pub fn data(&self) -> Vec<(&'static str, String)> {
        let mut data = vec![
            ("ca-cert.pem", self.certificate.clone()),
            ("ca-key.pem", self.key.clone()),
        ];
        if !self.chain.is_empty() {
            data.push(("cert-chain.pem", self.chain.clone()));
            data.push(("root-cert.pem", self.root.clone()));
        }
        data
    }
}

/// Signs a workload's certificate with a CA's key, as Citadel does.
///
/// # Errors
/// The key does not fit, or OpenSSL is missing.
pub fn sign_workload(ca_certificate: &str, ca_key: &str, identity: &str) -> Result<String> {
    let folder = Folder::create()?;
    folder.write("issuer.crt", ca_certificate)?;
    folder.write("issuer.key", ca_key)?;
    folder.key("leaf.key")?;
    let extensions =
        format!("keyUsage=critical,digitalSignature,keyEncipherment\nsubjectAltName=critical,URI:{identity}\n");
    folder.signed("leaf", "/", "issuer", &extensions)
}

/// Whether OpenSSL finds a way from the leaf over `chain` to one of `roots`; its words where it does not.
///
/// # Errors
/// There is no such way, or OpenSSL is missing.
pub fn verify(leaf: &str, chain: &str, roots: &str) -> Result<()> {
    let folder = Folder::create()?;
    let (leaf, chain) = (folder.write("leaf.crt", leaf)?, folder.write("chain.crt", chain)?);
    let roots = folder.write("roots.crt", roots)?;
    openssl([
        "verify".as_ref(),
        "-x509_strict".as_ref(),
        "-no-CApath".as_ref(),
        "-no-CAstore".as_ref(),
        "-CAfile".as_ref(),
        roots.as_path(),
        "-untrusted".as_ref(),
        chain.as_path(),
        leaf.as_path(),
    ])
    .map(|_| ())
}

/// What OpenSSL prints of a certificate.
///
/// # Errors
/// It is none, or OpenSSL is missing.
pub fn text(certificate: &str) -> Result<String> {
    let folder = Folder::create()?;
    let path = folder.write("one.crt", certificate)?;
    openssl([
        "x509".as_ref(),
        "-noout".as_ref(),
        "-text".as_ref(),
        "-in".as_ref(),
        path.as_path(),
    ])
}

/// Whether a certificate is for this key.
///
/// # Errors
/// One of the two does not read, or OpenSSL is missing.
pub fn fits(certificate: &str, key: &str) -> Result<bool> {
    let folder = Folder::create()?;
    let (certificate, key) = (folder.write("one.crt", certificate)?, folder.write("one.key", key)?);
    let of_certificate = openssl([
        "x509".as_ref(),
        "-noout".as_ref(),
        "-pubkey".as_ref(),
        "-in".as_ref(),
        certificate.as_path(),
    ])?;
    let of_key = openssl(["pkey".as_ref(), "-pubout".as_ref(), "-in".as_ref(), key.as_path()])?;
    Ok(of_certificate == of_key)
}

/// Files of one use.
struct Folder(TempDir);

impl Folder {
    fn create() -> Result<Self> {
        tempfile::tempdir().map(Self).context("making a folder")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path(name);
        std::fs::write(&path, text).with_context(|| format!("writing {name}"))?;
        Ok(path)
    }

    fn read(&self, name: &str) -> Result<String> {
        std::fs::read_to_string(self.path(name)).with_context(|| format!("reading {name}"))
    }

    /// A new key; its PEM.
    fn key(&self, name: &str) -> Result<String> {
        let path = self.path(name);
        openssl([
            "genrsa".as_ref(),
            "-traditional".as_ref(),
            "-out".as_ref(),
            path.as_path(),
            "2048".as_ref(),
        ])?;
        self.read(name)
    }

    /// A self-signed certificate of `NAME.key`; its PEM.
    fn root(&self, name: &str, common_name: &str) -> Result<String> {
        let (key, certificate) = (self.path(&format!("{name}.key")), self.path(&format!("{name}.crt")));
        let subject = format!("/O=mesh/CN={common_name}");
        openssl([
            "req".as_ref(),
            "-x509".as_ref(),
            "-new".as_ref(),
            "-days".as_ref(),
            "3650".as_ref(),
            "-subj".as_ref(),
            Path::new(&subject),
            "-addext".as_ref(),
            "keyUsage=critical,keyCertSign,cRLSign".as_ref(),
            "-key".as_ref(),
            key.as_path(),
            "-out".as_ref(),
            certificate.as_path(),
        ])?;
        self.read(&format!("{name}.crt"))
    }

    /// A certificate of `NAME.key` signed with `ISSUER.key`; its PEM.
    fn signed(&self, name: &str, subject: &str, issuer: &str, extensions: &str) -> Result<String> {
        let of = |name: &str, ending: &str| self.path(&format!("{name}.{ending}"));
        let file = self.write(
            &format!("{name}.ext"),
            &format!("{extensions}subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"),
        )?;
        openssl([
            "req".as_ref(),
            "-new".as_ref(),
            "-subj".as_ref(),
            Path::new(subject),
            "-key".as_ref(),
            of(name, "key").as_path(),
            "-out".as_ref(),
            of(name, "csr").as_path(),
        ])?;
        openssl([
            "x509".as_ref(),
            "-req".as_ref(),
            "-days".as_ref(),
            "90".as_ref(),
            "-in".as_ref(),
            of(name, "csr").as_path(),
            "-CA".as_ref(),
            of(issuer, "crt").as_path(),
            "-CAkey".as_ref(),
            of(issuer, "key").as_path(),
            "-CAcreateserial".as_ref(),
            "-extfile".as_ref(),
            file.as_path(),
            "-out".as_ref(),
            of(name, "crt").as_path(),
        ])?;
        self.read(&format!("{name}.crt"))
    }
}

fn openssl<const COUNT: usize>(arguments: [&Path; COUNT]) -> Result<String> {
    let ran = Command::new("openssl").args(arguments).stdin(Stdio::null()).output();
    let output = ran.context("running openssl: install Debian's package openssl")?;
    if !output.status.success() {
        bail!(
            "openssl {}: {}{}",
            arguments[0].display(),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaf_verifies_over_its_own_chain_and_over_no_other() -> Result<()> {
        let ours = MeshCa::plugged_in("ours", Some(1))?;
        let other = MeshCa::plugged_in("other", Some(1))?;
        let leaf = sign_workload(
            &ours.certificate,
            &ours.key,
            "spiffe://cluster.local/ns/default/sa/default",
        )?;
        verify(&leaf, &ours.chain, &ours.root)?;
        assert!(verify(&leaf, &other.chain, &other.root).is_err());
        assert!(fits(&ours.certificate, &ours.key)? && !fits(&other.certificate, &ours.key)?);
        assert!(text(&ours.certificate)?.contains("pathlen:1"));
        Ok(())
    }
}
