//! Names of images: how they are written out in full, and whether a registry is that of an image.

/// Citadel, where nothing else is asked for.
pub const CITADEL: &str = "docker.io/istio/citadel:1.0.5";

/// The sidecar injector, where nothing else is asked for.
pub const SIDECAR_INJECTOR: &str = "docker.io/istio/sidecar_injector:1.0.5";

/// The injected sidecar, where nothing else is asked for.
pub const PROXY: &str = "docker.io/istio/proxyv2:1.0.5";

/// The init container that turns traffic to the sidecar, where nothing else is asked for.
pub const PROXY_INIT: &str = "docker.io/istio/proxy_init:1.0.5";

/// The registry of images whose name begins with none.
const DOCKER_HUB: &str = "docker.io";

/// What Docker calls images of Docker Hub that have no owner in their name.
const DOCKER_LIBRARY: &str = "library";

/// Docker's older names of its own registry.
const DOCKER_HUB_ALIASES: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];

/// The name with its registry, as a container runtime reads it: `istio/citadel:1` is `docker.io/istio/citadel:1`.
#[must_use]
pub fn normalised(name: &str) -> String {
    let (registry, path) = match name.split_once('/') {
        Some((first, path)) if is_registry(first) => (first.to_lowercase(), path),
        _ => (DOCKER_HUB.to_owned(), name),
    };
    if DOCKER_HUB_ALIASES.contains(&registry.as_str()) || registry == DOCKER_HUB {
        if path.contains('/') {
            return format!("{DOCKER_HUB}/{path}");
        }
        return format!("{DOCKER_HUB}/{DOCKER_LIBRARY}/{path}");
    }
    format!("{registry}/{path}")
}

/// A prefix of images as a policy names it, with its registry: `istio` is `docker.io/istio`, and a registry alone is all
/// of its images.
#[must_use]
pub fn normalised_prefix(prefix: &str) -> String {
    let prefix = prefix.trim_end_matches('/');
    let first = prefix.split('/').next().unwrap_or_default();
    if !is_registry(first) {
        return format!("{DOCKER_HUB}/{prefix}");
    }
    let registry = first.to_lowercase();
    let rest = &prefix[first.len()..];
    let registry = if DOCKER_HUB_ALIASES.contains(&registry.as_str()) {
        DOCKER_HUB
    } else {
        &registry
    };
    format!("{registry}{rest}")
}

/// Whether an image lies under a normalised prefix. A prefix ends where a part of a path, a tag or a digest begins.
#[must_use]
pub fn is_under(image: &str, prefix: &str) -> bool {
    let name = normalised(image);
    let Some(rest) = name.strip_prefix(prefix) else {
        return false;
    };
    rest.is_empty() || rest.starts_with(['/', ':', '@'])
}

/// Whether a text has the letters of an image's name and no path that leads back.
#[must_use]
pub fn is_name(image: &str) -> bool {
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@+".contains(&byte);
    !image.is_empty() && image.bytes().all(letters) && image.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// The first part of a name is a registry when it looks like a host: it has a dot or a port, or is this machine.
fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_out_as_a_runtime_reads_them() {
        for (name, full) in [
            ("istio/citadel:1", "docker.io/istio/citadel:1"),
            ("nginx", "docker.io/library/nginx"),
            ("index.docker.io/istio/citadel", "docker.io/istio/citadel"),
            ("docker.io/nginx@sha256:0", "docker.io/library/nginx@sha256:0"),
            ("Registry.Example:5000/a/b:1", "registry.example:5000/a/b:1"),
            ("localhost/a", "localhost/a"),
        ] {
            assert_eq!(normalised(name), full);
        }
    }

    #[test]
    fn prefix_ends_at_the_border_of_a_part() {
        for (image, prefix, is) in [
            ("istio/citadel:1.0.5", "docker.io/istio", true),
            ("docker.io/istio/citadel@sha256:0", "docker.io/istio", true),
            ("istio/citadel:1.0.5", "docker.io/istio/citadel", true),
            ("istio/citadel:1.0.5", "docker.io/istio/citadel:1.0.5", true),
            ("istio/citadel:1.0.50", "docker.io/istio/citadel:1.0.5", false),
            ("istio-evil/citadel:1", "docker.io/istio", false),
            ("registry.example/docker.io/istio/citadel", "docker.io/istio", false),
            ("docker.io.evil.example/istio/citadel", "docker.io", false),
            ("registry.example/a/b", "registry.example", true),
            ("istio", "docker.io/istio", false),
        ] {
            assert_eq!(is_under(image, prefix), is, "{image} under {prefix}");
        }
    }

    #[test]
    fn prefixes_are_written_out() {
        for (prefix, full) in [
            ("istio", "docker.io/istio"),
            ("istio/", "docker.io/istio"),
            ("docker.io/istio", "docker.io/istio"),
            ("index.docker.io/istio", "docker.io/istio"),
            ("registry.example", "registry.example"),
            ("Registry.Example:5000/a", "registry.example:5000/a"),
        ] {
            assert_eq!(normalised_prefix(prefix), full);
        }
    }

    #[test]
    fn name_with_a_path_back_is_none() {
        assert!(is_name("docker.io/istio/proxyv2:1.0.5"));
        for image in ["", "a b", "docker.io/istio/../evil", "a//b", "/a", "a/", "a\nb", "a,b"] {
            assert!(!is_name(image), "{image:?}");
        }
    }

    #[test]
    fn own_images_lie_under_the_registry_that_is_allowed_by_default() {
        for image in [CITADEL, SIDECAR_INJECTOR, PROXY, PROXY_INIT] {
            assert!(is_under(image, super::super::DEFAULT_REGISTRY), "{image}");
        }
    }
}
