//! The file with the join token: read with care, blanked after use.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use remote_istio::enrolment::{Token, TokenError};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::AsyncReadExt as _;
use zeroize::Zeroizing;

/// No token is nearly as long.
const MAX_BYTES: u64 = 4 * 1024;

/// Bits of a file's mode by which everybody may read it.
const WORLD_READABLE: u32 = 0o004;

/// A token, and whether everybody on this machine may read it.
#[derive(Debug)]
pub struct Found {
    pub token: Token,
    pub world_readable: bool,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// No file.
    #[error("it is not there: mount the Secret with the token that `remote-istio-hub token create` printed")]
    Missing,
    /// A file that cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    /// A folder, a pipe, or the like.
    #[error("it is no file")]
    NoFile,
    /// Far too large.
    #[error("it is larger than {MAX_BYTES} bytes, which no token is")]
    TooLarge,
    /// Nothing or something else in it.
    #[error(transparent)]
    Content(#[from] TokenError),
}

/// Reads the token.
///
/// # Errors
/// There is none.
pub async fn read(path: &Path) -> Result<Found, TokenFileError> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => TokenFileError::Missing,
        _ => TokenFileError::Unreadable(error),
    };
    // Opening a pipe would wait for its writer.
    let metadata = fs::metadata(path).await.map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(TokenFileError::NoFile);
    }
    let file = File::open(path).await.map_err(unreadable)?;
    let mut content = Zeroizing::new(Vec::new());
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut content)
        .await
        .map_err(unreadable)?;
    if content.len() as u64 > MAX_BYTES {
        return Err(TokenFileError::TooLarge);
    }
    let text = std::str::from_utf8(&content).map_err(|_| TokenError::Shape)?;
    Ok(Found {
        token: text.parse()?,
        world_readable: metadata.permissions().mode() & WORLD_READABLE != 0,
    })
}

/// Empties the file if it still holds this token. Says whether it did.
///
/// # Errors
/// It cannot be written, as in a mount of a Secret.
pub async fn blank(path: &Path, used: &Token) -> io::Result<bool> {
    match read(path).await {
        Ok(found) if found.token == *used => {}
        _ => return Ok(false),
    }
    OpenOptions::new().write(true).truncate(true).open(path).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::fs as plain;
    use std::fs::Permissions;

    use super::*;

    fn token() -> Token {
        Token::new([1; 5], [2; 32])
    }

    fn file(content: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        plain::write(&path, content).expect("written");
        plain::set_permissions(&path, Permissions::from_mode(0o600)).expect("set");
        (folder, path)
    }

    #[tokio::test]
    async fn token_is_read_also_with_a_newline_and_told_when_everybody_can_read_it() {
        let (_folder, path) = file(format!("{}\n", token().reveal()).as_bytes());
        let found = read(&path).await.expect("a token");
        assert_eq!((found.token, found.world_readable), (token(), false));
        plain::set_permissions(&path, Permissions::from_mode(0o644)).expect("set");
        assert!(read(&path).await.expect("a token").world_readable);
    }

    #[tokio::test]
    async fn file_without_a_token_is_told_in_words_that_repeat_nothing_of_it() {
        let whole = token().reveal();
        for (content, words) in [
            (b"".as_slice(), "it is empty"),
            (b"\n", "it is empty"),
            (&whole.as_bytes()[..40], "it holds no token"),
            (
                whole.replace('.', ".\n").as_bytes(),
                "it holds a token with blanks or line breaks inside",
            ),
            (&[0xff; 20], "it holds no token"),
            (&[b'a'; 5_000], "larger than 4096 bytes"),
        ] {
            let (_folder, path) = file(content);
            let error = read(&path).await.expect_err("no token").to_string();
            assert!(error.starts_with(words) || error.contains(words), "{error}");
            assert!(!error.contains(&whole[9..20]), "{error}");
        }
        let (folder, path) = file(b"");
        assert!(matches!(read(folder.path()).await, Err(TokenFileError::NoFile)));
        plain::remove_file(&path).expect("removed");
        assert!(matches!(read(&path).await, Err(TokenFileError::Missing)));
    }

    #[tokio::test]
    async fn only_the_used_token_is_blanked() {
        let (_folder, path) = file(token().reveal().as_bytes());
        assert!(!blank(&path, &Token::new([9; 5], [9; 32])).await.expect("nothing to do"));
        assert!(blank(&path, &token()).await.expect("writable"));
        assert_eq!(plain::read(&path).expect("there"), b"");
        assert!(!blank(&path, &token()).await.expect("nothing to do"));
    }
}
