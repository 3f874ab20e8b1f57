//! A join token: `id.secret`. The id is public and names the record, the secret is kept by nobody but its bearer.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::{constant_time, digest};
use data_encoding::BASE32_NOPAD;

use super::hex;

/// Digits of a token, as in RFC 4648's base 32, in lower case.
const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Letters of an id.
const ID_LENGTH: usize = 8;

/// Letters of a secret: 32 random bytes.
const SECRET_LENGTH: usize = 52;

/// A token. `Debug` shows its id alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: String,
    secret: String,
}

/// A text that is no token. Says nothing of the text: it may be one that was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Nothing there.
    #[error("it is empty: write the token there that `remote-istio-hub token create` printed")]
    Empty,
    /// A token in pieces.
    #[error(
        "it holds a token with blanks or line breaks inside: it was pasted with them; copy it again, in one piece and on \
         one line"
    )]
    Spaces,
    /// Something else.
    #[error(
        "it holds no token: a token is {ID_LENGTH} letters or digits, a dot, and {SECRET_LENGTH} more; copy the whole \
         of it"
    )]
    Shape,
}

impl Token {
    /// A new one from random bytes: 5 for the id, 32 for the secret.
    #[must_use]
    pub fn new(id: [u8; 5], secret: [u8; 32]) -> Self {
        Self {
            id: base32(&id),
            secret: base32(&secret),
        }
    }

    /// Names the token's record; public.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the record keeps of the secret: its SHA-256, hex. The secret is 256 random bits, so that nothing slower
    /// is needed.
    #[must_use]
    pub fn secret_hash(&self) -> String {
        hex(digest::digest(&digest::SHA256, self.secret.as_bytes()).as_ref())
    }

    /// Whether this is the token of a record, compared in constant time.
    #[must_use]
    pub fn has_hash(&self, hash: &str) -> bool {
        constant_time::verify_slices_are_equal(self.secret_hash().as_bytes(), hash.as_bytes()).is_ok()
    }

    /// The whole token, for its bearer.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}.…)", self.id)
    }
}

impl FromStr for Token {
    type Err = TokenError;

    /// Blanks around it are no part of it: files end with a newline.
    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        if text.chars().any(char::is_whitespace) {
            let pieces: String = text.split_whitespace().collect();
            return Err(pieces.parse::<Self>().map_or(TokenError::Shape, |_| TokenError::Spaces));
        }
        let (id, secret) = text.split_once('.').ok_or(TokenError::Shape)?;
        let fits = |part: &str, length| part.len() == length && part.bytes().all(|byte| DIGITS.contains(&byte));
        if !fits(id, ID_LENGTH) || !fits(secret, SECRET_LENGTH) {
            return Err(TokenError::Shape);
        }
        Ok(Self {
            id: id.to_owned(),
            secret: secret.to_owned(),
        })
    }
}

/// RFC 4648 without padding, in lower case.
fn base32(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token::new([1, 2, 3, 4, 5], [7; 32])
    }

    #[test]
    fn token_reads_back_also_from_a_file_with_a_newline() {
        assert_eq!(token().reveal().parse(), Ok(token()));
        assert_eq!(format!("{}\n", token().reveal()).parse(), Ok(token()));
    }

    #[test]
    fn what_is_no_token_is_told_from_nothing() {
        let whole = token().reveal();
        for empty in ["", " \n"] {
            assert_eq!(empty.parse::<Token>(), Err(TokenError::Empty));
        }
        for wrong in [
            &whole[1..],
            &whole[..whole.len() - 1],
            &whole.to_uppercase(),
            &whole.replace('.', "-"),
            "a.b",
        ] {
            assert_eq!(wrong.parse::<Token>(), Err(TokenError::Shape), "{wrong}");
        }
    }

    #[test]
    fn token_pasted_with_blanks_or_line_breaks_is_told_so() {
        let whole = token().reveal();
        let pasted = |at: usize, with: &str| format!(" {}{with}{}\n", &whole[..at], &whole[at..]);
        for (at, with) in [(8, " "), (9, "\n"), (30, "\r\n  "), (60, "\t")] {
            assert_eq!(
                pasted(at, with).parse::<Token>(),
                Err(TokenError::Spaces),
                "{at} {with:?}"
            );
        }
        assert_eq!(format!("\r\n\t {whole} \r\n").parse(), Ok(token()));
        assert_eq!("token: abc".parse::<Token>(), Err(TokenError::Shape));
    }

    #[test]
    fn only_the_same_secret_has_the_hash_and_no_print_shows_it() {
        let other = Token::new([1, 2, 3, 4, 5], [8; 32]);
        assert!(token().has_hash(&token().secret_hash()));
        assert!(!other.has_hash(&token().secret_hash()));
        assert!(!token().has_hash(""));
        assert!(!format!("{:?}", token()).contains(&token().secret));
    }
}
