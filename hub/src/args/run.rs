//! The flags of `run`.

mod mesh;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use humantime::parse_duration;
use remote_istio::identity::{DEFAULT_TRUST_DOMAIN, is_trust_domain};
use remote_istio::limits;
use remote_istio::model::{is_dns_label, is_dns_subdomain};
use remote_istio::process::LogFormat;
use remote_istio::tls::CertificateFiles;
use remote_istio::transport::HubAddress;

use mesh::MeshArgs;
pub use mesh::MeshSigning;

use super::{ArgsError, namespace, time};
use crate::authority::LINK_CA_SECRET;

/// Where the kernel tells the host's name.
pub(super) const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";

/// The name of the hub's Service, before its namespace.
const SERVICE: &str = "remote-istio-hub";

/// Where the enrolment port is served where nothing else is said.
const ENROLMENT_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), 8443);

const DAY: Duration = Duration::from_hours(24);

/// How long a certificate may live. The shortest leaves a second for its renewal.
const LIFETIMES: (Duration, Duration) = (Duration::from_secs(3), Duration::from_hours(90 * 24));

/// How long after its end a certificate may still be good for a recovery.
const RECOVERY_PERIODS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(3650 * 24));

/// How long after its end a certificate is good for a recovery where nothing else is said.
const RECOVERY_PERIOD: Duration = Duration::from_hours(90 * 24);

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Namespace of the hub and of the `RemoteIstio` resources
    #[arg(long, env = "REMOTE_ISTIO_NAMESPACE", default_value = "istio-system")]
    namespace: String,
    /// Namespaces with services that remotes may resolve, separated by commas [default: the namespace]
    #[arg(long, env = "REMOTE_ISTIO_SERVICE_NAMESPACES", value_delimiter = ',')]
    service_namespaces: Vec<String>,
    /// Trust domain of all identities on the link
    #[arg(long, env = "REMOTE_ISTIO_TRUST_DOMAIN", default_value = DEFAULT_TRUST_DOMAIN)]
    trust_domain: String,
    /// Whose CA signs the link's certificates: one that the hub makes, one that you keep in the Secret, or one elsewhere:
    /// then certificates lie in files
    #[arg(
        long,
        env = "REMOTE_ISTIO_LINK_CA",
        value_enum,
        default_value = "made",
        hide_possible_values = true,
        value_name = "made|secret|files"
    )]
    link_ca: LinkCaKind,
    #[command(flatten)]
    signing: SigningArgs,
    #[command(flatten)]
    mesh: MeshArgs,
    /// Certificate chain of this hub, PEM, leaf first; with --link-ca files
    #[arg(long, env = "REMOTE_ISTIO_CERTIFICATE", value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// Private key of the certificate, PEM; with --link-ca files
    #[arg(long, env = "REMOTE_ISTIO_KEY", value_name = "FILE")]
    key: Option<PathBuf>,
    /// CAs that sign the certificates of agents, PEM; with --link-ca files
    #[arg(long, env = "REMOTE_ISTIO_TRUST_BUNDLE", value_name = "FILE")]
    trust_bundle: Option<PathBuf>,
    /// Where agents connect
    #[arg(long, env = "REMOTE_ISTIO_SYNC_ADDRESS", default_value = "[::]:8444")]
    sync_address: SocketAddr,
    /// Where health and metrics are served
    #[arg(long, env = "REMOTE_ISTIO_METRICS_ADDRESS", default_value = "[::]:8080")]
    metrics_address: SocketAddr,
    /// How many `RemoteIstio` resources may be deleted at once: of more none is withdrawn from its remote until a person
    /// decides, 1 to 10000
    #[arg(
        long,
        env = "REMOTE_ISTIO_DELETION_LIMIT",
        default_value = "5",
        value_parser = clap::value_parser!(u16).range(1..=10_000),
        value_name = "NUMBER"
    )]
    deletion_limit: u16,
    /// Name of this replica, for people [default: the host's name]
    #[arg(long, env = "REMOTE_ISTIO_REPLICA", value_name = "NAME")]
    replica: Option<String>,
    /// Kubeconfig of the central cluster [default: that of the pod, else as kubectl finds it]
    #[arg(long, env = "REMOTE_ISTIO_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// How log lines look: text or json
    #[arg(long, env = "REMOTE_ISTIO_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// What is logged: a level, or directives such as `info,remote_istio_hub=debug`
    #[arg(long, env = "REMOTE_ISTIO_LOG_LEVEL", default_value = "info")]
    log_level: String,
}

/// What only a hub that signs certificates has a use for. Without defaults here, so that a flag that was given is told
/// from one that was not.
#[derive(Debug, Args)]
struct SigningArgs {
    /// Secret of the link CA, in the namespace; with --link-ca made or secret [default: remote-istio-link-ca]
    #[arg(long, env = "REMOTE_ISTIO_LINK_CA_SECRET", value_name = "NAME")]
    link_ca_secret: Option<String>,
    /// Where agents join and recover [default: [::]:8443]
    #[arg(long, env = "REMOTE_ISTIO_ENROLMENT_ADDRESS", value_name = "ADDRESS")]
    enrolment_address: Option<SocketAddr>,
    /// Where remotes find the sync port, separated by commas; the hub's certificate carries the hosts [default:
    /// remote-istio-hub.NAMESPACE.svc:8444]
    #[arg(
        long,
        env = "REMOTE_ISTIO_PUBLIC_SYNC",
        value_delimiter = ',',
        value_name = "HOST:PORT"
    )]
    public_sync: Vec<HubAddress>,
    /// Where remotes find the enrolment port, separated by commas [default:
    /// remote-istio-hub.NAMESPACE.svc:8443]
    #[arg(
        long,
        env = "REMOTE_ISTIO_PUBLIC_ENROLMENT",
        value_delimiter = ',',
        value_name = "HOST:PORT"
    )]
    public_enrolment: Vec<HubAddress>,
    /// Service of type `LoadBalancer` in the namespace whose address remotes dial, by its ports named sync and enrolment;
    /// instead of --public-sync and --public-enrolment
    #[arg(long, env = "REMOTE_ISTIO_PUBLIC_SERVICE", value_name = "NAME")]
    public_service: Option<String>,
    /// How long certificates live; they are renewed at two thirds [default: 24h]
    #[arg(long, env = "REMOTE_ISTIO_CERTIFICATE_LIFETIME", value_parser = parse_duration, value_name = "TIME")]
    certificate_lifetime: Option<Duration>,
    /// How long after the end of its certificate an agent comes back without a new token [default: 90d]
    #[arg(long, env = "REMOTE_ISTIO_RECOVERY_PERIOD", value_parser = parse_duration, value_name = "TIME")]
    recovery_period: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LinkCaKind {
    Made,
    Secret,
    Files,
}

/// Whose CA signs the certificates of the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkCa {
    /// The hub's own: made into the Secret unless one stands there.
    Made {
        /// Name of the Secret.
        secret: String,
    },
    /// The user's: the Secret holds a signing CA and is never written.
    Brought {
        /// Name of the Secret.
        secret: String,
    },
    /// None here: all certificates come from elsewhere.
    Files(CertificateFiles),
}

/// Everything the hub can be told, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Namespace of the hub and of the `RemoteIstio` resources.
    pub namespace: String,
    /// Namespaces with services that remotes may resolve; never empty.
    pub service_namespaces: BTreeSet<String>,
    /// Trust domain of all identities on the link.
    pub trust_domain: String,
    /// Whose CA signs the certificates of the link.
    pub link: LinkCa,
    /// Where agents join and recover; port 0 takes a free one. Without meaning where certificates lie in files.
    pub enrolment_address: SocketAddr,
    /// Where remotes find the sync port; never empty. Without meaning where certificates lie in files.
    pub public_sync: Vec<HubAddress>,
    /// Where remotes find the enrolment port; never empty. Without meaning where certificates lie in files.
    pub public_enrolment: Vec<HubAddress>,
    /// The Service whose load balancer says so instead of both.
    pub public_service: Option<String>,
    /// How long certificates live. Without meaning where certificates lie in files.
    pub certificate_lifetime: Duration,
    /// How long after its end a certificate is good for a recovery. Without meaning where certificates lie in files.
    pub recovery_period: Duration,
    /// How the hub signs for the mesh; nothing unless it is granted.
    pub mesh_signing: Option<MeshSigning>,
    /// Where agents connect; port 0 takes a free one.
    pub sync_address: SocketAddr,
    /// Where health and metrics are served; port 0 takes a free one.
    pub metrics_address: SocketAddr,
    /// How many `RemoteIstio`s may be deleted at once without a person's word; at least one.
    pub deletion_limit: usize,
    /// Name of this replica.
    pub replica: String,
    /// Kubeconfig of the central cluster; nothing: as the environment says.
    pub kubeconfig: Option<PathBuf>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// What is logged.
    pub log_level: String,
}

impl RunArgs {
    pub(super) fn checked(self) -> Result<Config, ArgsError> {
        let namespace = namespace("--namespace", self.namespace)?;
        let service_namespaces = service_namespaces(self.service_namespaces, &namespace)?;
        if !is_trust_domain(&self.trust_domain) {
            return Err(ArgsError::TrustDomain(self.trust_domain));
        }
        let files = [
            ("--certificate", self.certificate),
            ("--key", self.key),
            ("--trust-bundle", self.trust_bundle),
        ];
        let public_service = self.signing.public_service()?;
        let link = match self.link_ca {
            LinkCaKind::Files => {
                self.signing.must_be_absent()?;
                LinkCa::Files(all_files(files)?)
            }
            kind => {
                no_files(kind, &files)?;
                let secret = secret(self.signing.link_ca_secret)?;
                if kind == LinkCaKind::Made {
                    LinkCa::Made { secret }
                } else {
                    LinkCa::Brought { secret }
                }
            }
        };
        let lifetime = self.signing.certificate_lifetime.unwrap_or(DAY);
        let recovery = self.signing.recovery_period.unwrap_or(RECOVERY_PERIOD);
        Ok(Config {
            service_namespaces,
            trust_domain: self.trust_domain,
            link,
            enrolment_address: self.signing.enrolment_address.unwrap_or(ENROLMENT_ADDRESS),
            public_sync: public("--public-sync", self.signing.public_sync, &namespace, 8444)?,
            public_enrolment: public("--public-enrolment", self.signing.public_enrolment, &namespace, 8443)?,
            public_service,
            certificate_lifetime: time("--certificate-lifetime", lifetime, LIFETIMES, "24h")?,
            recovery_period: time("--recovery-period", recovery, RECOVERY_PERIODS, "90d")?,
            mesh_signing: self.mesh.checked()?,
            sync_address: self.sync_address,
            metrics_address: self.metrics_address,
            deletion_limit: self.deletion_limit.into(),
            replica: replica(self.replica)?,
            kubeconfig: self.kubeconfig,
            log_format: self.log_format,
            log_level: self.log_level,
            namespace,
        })
    }
}

impl SigningArgs {
    /// Where certificates lie in files nothing is signed here.
    fn must_be_absent(&self) -> Result<(), ArgsError> {
        let given = [
            ("--link-ca-secret", self.link_ca_secret.is_some()),
            ("--enrolment-address", self.enrolment_address.is_some()),
            ("--public-sync", !self.public_sync.is_empty()),
            ("--public-enrolment", !self.public_enrolment.is_empty()),
            ("--public-service", self.public_service.is_some()),
            ("--certificate-lifetime", self.certificate_lifetime.is_some()),
            ("--recovery-period", self.recovery_period.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((flag, _)) => Err(ArgsError::OtherLinkCa {
                flag,
                given: "files",
                needed: "made or secret",
            }),
        }
    }
}

impl SigningArgs {
    /// An empty text counts as none: charts write such.
    fn public_service(&self) -> Result<Option<String>, ArgsError> {
        let Some(name) = self.public_service.as_ref().filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        if !is_dns_label(name) {
            return Err(ArgsError::Service(name.clone()));
        }
        let given = [
            ("--public-sync", !self.public_sync.is_empty()),
            ("--public-enrolment", !self.public_enrolment.is_empty()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(ArgsError::TwoPublic(flag)),
            None => Ok(Some(name.clone())),
        }
    }
}

fn all_files(files: [(&'static str, Option<PathBuf>); 3]) -> Result<CertificateFiles, ArgsError> {
    let [certificate, key, trust_bundle] = files.map(|(flag, file)| file.ok_or(ArgsError::FileMissing(flag)));
    Ok(CertificateFiles {
        certificate: certificate?,
        key: key?,
        trust_bundle: trust_bundle?,
    })
}

fn no_files(kind: LinkCaKind, files: &[(&'static str, Option<PathBuf>); 3]) -> Result<(), ArgsError> {
    match files.iter().find(|(_, file)| file.is_some()) {
        None => Ok(()),
        Some((flag, _)) => Err(ArgsError::OtherLinkCa {
            flag,
            given: if kind == LinkCaKind::Made { "made" } else { "secret" },
            needed: "files",
        }),
    }
}

fn service_namespaces(given: Vec<String>, own: &str) -> Result<BTreeSet<String>, ArgsError> {
    let given = given.into_iter().map(|name| name.trim().to_owned());
    let given: Vec<String> = given.filter(|name| !name.is_empty()).collect();
    if given.is_empty() {
        return Ok(BTreeSet::from([own.to_owned()]));
    }
    let checked = given.into_iter().map(|name| namespace("--service-namespaces", name));
    checked.collect()
}

/// What a flag names, or the Service of the hub.
fn public(
    flag: &'static str,
    given: Vec<HubAddress>,
    namespace: &str,
    port: u16,
) -> Result<Vec<HubAddress>, ArgsError> {
    let (count, limit) = (given.len(), limits::TRUST_ADDRESSES);
    if count > limit {
        return Err(ArgsError::Addresses { flag, count, limit });
    }
    if !given.is_empty() {
        return Ok(given);
    }
    let service = format!("{SERVICE}.{namespace}.svc:{port}");
    Ok(vec![
        service.parse().expect("three DNS labels and a port are an address"),
    ])
}

/// The name of the link CA's Secret.
pub(super) fn secret(given: Option<String>) -> Result<String, ArgsError> {
    secret_name("--link-ca-secret", given.unwrap_or_else(|| LINK_CA_SECRET.to_owned()))
}

fn secret_name(flag: &'static str, name: String) -> Result<String, ArgsError> {
    if is_dns_subdomain(&name) {
        Ok(name)
    } else {
        Err(ArgsError::Secret(flag, name))
    }
}

fn replica(given: Option<String>) -> Result<String, ArgsError> {
    let name = match given {
        Some(name) => name,
        None => std::fs::read_to_string(HOST_NAME_FILE)
            .map_err(ArgsError::HostName)?
            .trim()
            .to_owned(),
    };
    if name.is_empty() || name.len() > limits::NAME_MAX_BYTES || name.contains(char::is_whitespace) {
        return Err(ArgsError::Replica(name));
    }
    Ok(name)
}
