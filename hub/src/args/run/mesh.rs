//! The flags by which the hub signs for the mesh.

use std::time::Duration;

use clap::Args;
use humantime::parse_duration;

use super::super::{ArgsError, time};
use super::secret_name;

/// How long the CA of a remote may live.
const MESH_LIFETIMES: (Duration, Duration) = (Duration::from_secs(3), Duration::from_hours(3650 * 24));

/// How long it lives where nothing else is said. Citadel gives workloads 90 days: what it signed last before its own CA
/// was renewed must end before that CA does.
const MESH_LIFETIME: Duration = Duration::from_hours(365 * 24);

/// Signing for the mesh.
#[derive(Debug, Args)]
pub(super) struct MeshArgs {
    /// Lets remotes with Citadel have a CA of their own below central's mesh CA. It is off unless given, for whoever
    /// controls the hub can then make any identity of the mesh, and so can each such remote: read docs/security.md
    #[arg(long, env = "REMOTE_ISTIO_SIGN_MESH_CA")]
    sign_mesh_ca: bool,
    /// Secret of central's mesh CA, in the namespace [default: cacerts, else istio-ca-secret]
    #[arg(long, env = "REMOTE_ISTIO_MESH_CA_SECRET", value_name = "NAME")]
    mesh_ca_secret: Option<String>,
    /// How long the CA of a remote lives; it is renewed at two thirds, and what is left must outlast the certificates of
    /// workloads [default: 365d]
    #[arg(long, env = "REMOTE_ISTIO_MESH_CERTIFICATE_LIFETIME", value_parser = parse_duration, value_name = "TIME")]
    mesh_certificate_lifetime: Option<Duration>,
}

/// How the hub signs for the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshSigning {
    /// Name of the Secret of central's mesh CA; nothing: as Istio finds it.
    pub secret: Option<String>,
    /// How long the CA of a remote lives.
    pub lifetime: Duration,
}

impl MeshArgs {
    pub(super) fn checked(self) -> Result<Option<MeshSigning>, ArgsError> {
        if !self.sign_mesh_ca {
            let given = [
                ("--mesh-ca-secret", self.mesh_ca_secret.is_some()),
                ("--mesh-certificate-lifetime", self.mesh_certificate_lifetime.is_some()),
            ];
            return match given.into_iter().find(|(_, given)| *given) {
                None => Ok(None),
                Some((flag, _)) => Err(ArgsError::NotGranted(flag)),
            };
        }
        let lifetime = self.mesh_certificate_lifetime.unwrap_or(MESH_LIFETIME);
        Ok(Some(MeshSigning {
            secret: self
                .mesh_ca_secret
                .map(|name| secret_name("--mesh-ca-secret", name))
                .transpose()?,
            lifetime: time("--mesh-certificate-lifetime", lifetime, MESH_LIFETIMES, "365d")?,
        }))
    }
}
