//! Finds keys and tokens where they must not be, in every form in which they could have slipped in.

use std::collections::HashMap;

use aws_lc_rs::digest;
use k8s_openapi::ByteString;
use remote_istio::enrolment::hex;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;

/// So many bytes of a form are looked up at once.
const START: usize = 8;

/// What stands before the 32 secret bytes of a P-256 key in its DER form.
const BEFORE_SCALAR: [u8; 5] = [0x02, 0x01, 0x01, 0x04, 0x20];

/// What every PKCS #8 key of P-256 begins with, after its length: version 0, the curve, and the tag of the key.
const KEY_START: [u8; 25] = [
    0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
    0xce, 0x3d, 0x03, 0x01, 0x07, 0x04,
];

/// Things that must be nowhere.
#[derive(Debug, Default)]
pub struct Secrets {
    forms: HashMap<[u8; START], Vec<Form>>,
    known: Vec<Vec<u8>>,
}

#[derive(Debug, Clone)]
struct Form {
    bytes: Vec<u8>,
    name: String,
}

impl Secrets {
    /// Adds a private key, PEM.
    ///
    /// # Panics
    /// It is no PKCS #8 key of P-256.
    pub fn add_key(&mut self, name: &str, pem: &str) {
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).expect("a key, PEM");
        let der = der.secret_der();
        let before = der
            .windows(BEFORE_SCALAR.len())
            .position(|window| window == BEFORE_SCALAR)
            .expect("a P-256 key");
        let scalar = &der[before + BEFORE_SCALAR.len()..][..32];
        self.add(&format!("the secret number of {name}"), scalar);
        // The PEM text, of which the second line begins within the secret number, may be wrapped once more.
        let line = pem.lines().nth(2).expect("a key has several lines");
        self.add(&format!("a line of the PEM text of {name}"), line.as_bytes());
    }

    /// Adds an RSA key, PEM: bytes out of its primes and its exponents, which all are secret, and lines of the text.
    ///
    /// # Panics
    /// It is no key of RSA with 2048 bits or more.
    pub fn add_rsa_key(&mut self, name: &str, pem: &str) {
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).expect("a key, PEM");
        let der = key.secret_der();
        assert!(der.len() > 1000, "an RSA key is longer than {} bytes", der.len());
        // Modulus and public exponent are over before a third of it.
        for percent in [50, 70, 90] {
            let from = der.len() * percent / 100;
            self.add(&format!("bytes at {percent} % of {name}"), &der[from..from + 32]);
        }
        let lines: Vec<&str> = pem.lines().collect();
        for line in [lines.len() / 2, lines.len() * 3 / 4] {
            self.add(
                &format!("line {line} of the PEM text of {name}"),
                lines[line].as_bytes(),
            );
        }
    }

    /// Adds any private key of P-256: what the DER form of each begins with.
    pub fn add_key_start(&mut self, name: &str) {
        self.add(&format!("the beginning of {name}"), &KEY_START);
    }

    /// Adds a token: the half after the dot is secret.
    ///
    /// # Panics
    /// It has no dot.
    pub fn add_token(&mut self, name: &str, token: &str) {
        let (_, secret) = token.split_once('.').expect("id.secret");
        self.add(&format!("the secret half of {name}"), secret.as_bytes());
    }

    /// How many secrets were added, each counted once.
    #[must_use]
    pub fn count(&self) -> usize {
        self.known.len()
    }

    fn add(&mut self, name: &str, bytes: &[u8]) {
        let known = digest::digest(&digest::SHA256, bytes).as_ref().to_vec();
        if self.known.contains(&known) {
            return;
        }
        self.known.push(known);
        let hex = hex(bytes);
        let decimals: Vec<String> = bytes.iter().map(ToString::to_string).collect();
        self.form(format!("{name}, as it is"), bytes.to_vec());
        self.form(format!("{name}, hex"), hex.to_uppercase().into_bytes());
        self.form(format!("{name}, hex"), hex.into_bytes());
        self.form(format!("{name}, a list of numbers"), decimals.join(", ").into_bytes());
        self.form(format!("{name}, a list of numbers"), decimals.join(",").into_bytes());
        for shift in 0..3 {
            let text = base64(bytes, shift);
            let url = text.replace('+', "-").replace('/', "_");
            self.form(format!("{name}, base 64"), text.into_bytes());
            self.form(format!("{name}, base 64 for URLs"), url.into_bytes());
        }
    }

    fn form(&mut self, name: String, bytes: Vec<u8>) {
        let start = bytes[..START].try_into().expect("secrets are longer");
        self.forms.entry(start).or_default().push(Form { bytes, name });
    }

    /// What of it stands in these bytes, named; `place` is for the message.
    #[must_use]
    pub fn find(&self, place: &str, bytes: &[u8]) -> Vec<String> {
        let mut found = self.find_in(bytes);
        // PEM text is broken into lines, and lines are escaped in JSON.
        found.extend(self.find_in(&unbroken(bytes)));
        found.sort();
        found.dedup();
        found.into_iter().map(|name| format!("{place}: {name}")).collect()
    }

    fn find_in(&self, bytes: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        for (position, start) in bytes.windows(START).enumerate() {
            let Some(forms) = self.forms.get(start) else {
                continue;
            };
            let here = forms.iter().filter(|form| bytes[position..].starts_with(&form.bytes));
            found.extend(here.map(|form| form.name.clone()));
        }
        found
    }
}

/// Without line breaks, written out or not.
fn unbroken(bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        match (byte, rest.peek()) {
            (b'\r' | b'\n', _) => {}
            (b'\\', Some(b'n' | b'r')) => {
                rest.next();
            }
            _ => whole.push(byte),
        }
    }
    whole
}

/// The letters that stand for these bytes wherever they begin `shift` bytes after a multiple of three: those at the
/// edges also stand for their neighbours, and are left out.
fn base64(bytes: &[u8], shift: usize) -> String {
    let mut padded = vec![0; shift];
    padded.extend_from_slice(bytes);
    padded.truncate(padded.len() / 3 * 3);
    let text = serde_json::to_value(ByteString(padded)).expect("bytes are JSON");
    let text = text.as_str().expect("base 64 is a text").to_owned();
    // The first letters hold bits of the padding.
    text[if shift == 0 { 0 } else { 4 }..].to_owned()
}

#[cfg(test)]
mod tests {
    use rcgen::KeyPair;

    use super::*;

    fn base64_of(bytes: &[u8]) -> String {
        let text = serde_json::to_value(ByteString(bytes.to_vec())).expect("JSON");
        text.as_str().expect("a text").to_owned()
    }

    #[test]
    fn planted_key_is_found_in_every_form() {
        let key = KeyPair::generate().expect("a key");
        let (pem, der) = (key.serialize_pem(), key.serialize_der());
        let mut secrets = Secrets::default();
        secrets.add_key("the key", &pem);
        let hex = hex(&der);
        for (number, planted) in [
            der.clone(),
            pem.clone().into_bytes(),
            pem.replace('\n', "\\n").into_bytes(),
            pem.replace('\n', "\r\n").into_bytes(),
            base64_of(&der).into_bytes(),
            base64_of(&der[1..]).into_bytes(),
            base64_of(&der[2..]).into_bytes(),
            base64_of(pem.as_bytes()).into_bytes(),
            base64_of(&pem.as_bytes()[1..]).into_bytes(),
            base64_of(&pem.as_bytes()[2..]).into_bytes(),
            hex.to_uppercase().into_bytes(),
            hex.into_bytes(),
            format!("{der:?}").into_bytes(),
        ]
        .into_iter()
        .enumerate()
        {
            let around = [b"before ".as_slice(), &planted, b" after"].concat();
            assert_ne!(secrets.find("here", &around), [""; 0], "form {number}");
        }
        let other = KeyPair::generate().expect("a key");
        assert_eq!(secrets.find("here", other.serialize_pem().as_bytes()), [""; 0]);
        assert_eq!(
            secrets.find("here", key.public_key_pem().as_bytes()),
            [""; 0],
            "it is public"
        );
    }

    #[test]
    fn planted_token_is_found_and_its_public_half_is_not() {
        let mut secrets = Secrets::default();
        secrets.add_token("the token", "abcdefgh.ijklmnopqrstuvwxyz234567");
        assert_ne!(
            secrets.find("", b"{\"token\":\"abcdefgh.ijklmnopqrstuvwxyz234567\"}"),
            [""; 0]
        );
        let wrapped = base64_of(b"abcdefgh.ijklmnopqrstuvwxyz234567");
        assert_ne!(secrets.find("", wrapped.as_bytes()), [""; 0]);
        assert_eq!(secrets.find("", b"abcdefgh"), [""; 0]);
    }

    #[test]
    fn any_private_key_is_found_by_its_beginning_and_no_public_one() {
        let mut secrets = Secrets::default();
        secrets.add_key_start("a key");
        let key = KeyPair::generate().expect("a key");
        assert_ne!(secrets.find("", &key.serialize_der()), [""; 0]);
        assert_ne!(secrets.find("", key.serialize_pem().as_bytes()), [""; 0]);
        let request = rcgen::CertificateParams::default()
            .serialize_request(&key)
            .expect("a request");
        assert_eq!(secrets.find("", request.der()), [""; 0]);
        let certificate = rcgen::CertificateParams::default().self_signed(&key).expect("signed");
        assert_eq!(secrets.find("", certificate.der()), [""; 0]);
    }

    #[test]
    fn secret_that_is_added_again_counts_once() {
        let mut secrets = Secrets::default();
        for _ in 0..2 {
            secrets.add_token("the token", "abcdefgh.ijklmnopqrstuvwxyz234567");
        }
        assert_eq!(secrets.count(), 1);
    }
}
