//! What both ends must agree on to give a remote its identity: tokens, pins, the trust that is handed out, and the
//! proof by which an ended certificate is recovered. Pure.

mod pin;
mod proof;
mod token;
mod trust;

use data_encoding::HEXLOWER;
use pem::{EncodeConfig, LineEnding, Pem};

pub use pin::{Pin, PinError};
pub use proof::{ProofError, proof_input, verify_proof};
pub use token::{Token, TokenError};
pub use trust::{Trust, TrustDigest, TrustError};

/// The key of the agent's Secret or of the token's that holds a token.
pub const TOKEN_KEY: &str = "token";

/// Lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// A DER certificate as PEM.
#[must_use]
pub fn certificate_pem(der: &[u8]) -> String {
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    pem::encode_config(&Pem::new("CERTIFICATE", der), config)
}
