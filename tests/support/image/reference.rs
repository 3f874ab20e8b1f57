//! Names of images, as runtimes complete them.

use anyhow::{Result, bail};

/// The whole name of an image and its tag: a runtime completes a name without a host by Docker's own, and looks for
/// nothing else when a pod asks for the short one.
pub(super) fn complete(reference: &str) -> Result<(String, &str)> {
    let last = reference.rfind('/').map_or(0, |slash| slash + 1);
    let Some((name, tag)) = reference[last..].split_once(':') else {
        bail!("the image's name {reference:?} has no tag: write it as NAME:TAG");
    };
    let fits = |text: &str, more: &str| {
        text.starts_with(|letter: char| letter.is_ascii_alphanumeric())
            && text
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || more.contains(letter))
    };
    if !fits(name, "._-") || !fits(tag, "._-") || tag.len() > 128 || name.chars().any(char::is_uppercase) {
        bail!("{reference:?} is not the name of an image: write it as name:tag, the name in lower case");
    }
    let host = reference[..last].split('/').next().unwrap_or_default();
    let whole = if last == 0 {
        format!("docker.io/library/{reference}")
    } else if host.contains(['.', ':']) || host == "localhost" {
        reference.to_owned()
    } else {
        format!("docker.io/{reference}")
    };
    Ok((whole, tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_as_runtimes_do() -> Result<()> {
        for (short, whole, tag) in [
            ("hub:0.1.0", "docker.io/library/hub:0.1.0", "0.1.0"),
            ("team/hub:1", "docker.io/team/hub:1", "1"),
            ("registry.test/team/hub:1", "registry.test/team/hub:1", "1"),
            ("localhost/hub:1", "localhost/hub:1", "1"),
            ("host:5000/hub:1", "host:5000/hub:1", "1"),
        ] {
            assert_eq!(complete(short)?, (whole.to_owned(), tag));
        }
        Ok(())
    }

    #[test]
    fn a_name_without_a_tag_is_refused() {
        for wrong in ["hub", "host:5000/hub", "", "hub:", ":1", "Hub:1", "hub:a b"] {
            assert!(complete(wrong).is_err(), "{wrong:?}");
        }
    }
}
