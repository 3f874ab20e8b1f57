//! Who may speak to a cluster: its certificate, the administrator, tokens of `ServiceAccount`s.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use rcgen::KeyPair;

use crate::ca::{Authority, Leaf};
use crate::folder::Folder;

/// A playground may stay up for days.
const TOKEN_SECONDS: i64 = 30 * 24 * 3600;

#[derive(Debug)]
pub(super) struct Access {
    name: String,
    address: SocketAddr,
    ca: String,
    admin: Config,
    admin_kubeconfig: PathBuf,
    made: AtomicUsize,
    folder: Arc<Folder>,
}

impl Access {
    /// Writes keys, a certificate for these names, tokens and the administrator's kubeconfig.
    pub(super) async fn create(
        name: &str,
        address: SocketAddr,
        names: Vec<String>,
        folder: Arc<Folder>,
    ) -> Result<Self> {
        let authority = Authority::new(&format!("API server of {name}"))?;
        let mut leaf = Leaf::uri("").without_uri();
        leaf.names.extend(names);
        authority.issue_into(&folder.access("."), &leaf)?;
        let accounts = KeyPair::generate().context("making a key")?;
        write(&folder.access("accounts.key"), &accounts.serialize_pem())?;
        write(&folder.access("accounts.pub"), &accounts.public_key_pem())?;
        let token = format!("{:032x}", rand::random::<u128>());
        write(
            &folder.access("tokens.csv"),
            &format!("{token},admin,admin,system:masters\n"),
        )?;
        let ca = authority.bundle();
        let text = kubeconfig(
            name,
            &address.to_string(),
            &folder.access("ca.crt"),
            "admin",
            "default",
            &token,
        );
        let admin_kubeconfig = folder.access("admin.kubeconfig");
        write(&admin_kubeconfig, &text)?;
        let parsed = Kubeconfig::read_from(&admin_kubeconfig).context("reading back a kubeconfig")?;
        let admin = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await?;
        Ok(Self {
            name: name.to_owned(),
            address,
            ca,
            admin,
            admin_kubeconfig,
            made: AtomicUsize::new(0),
            folder,
        })
    }

    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.access(name)
    }

    pub(super) fn ca(&self) -> &str {
        &self.ca
    }

    pub(super) fn admin(&self) -> Client {
        Client::try_from(self.admin.clone()).expect("the configuration is good, it was checked when it was made")
    }

    pub(super) fn admin_kubeconfig(&self) -> &Path {
        &self.admin_kubeconfig
    }

    pub(super) async fn service_account(
        &self,
        admin: &Client,
        namespace: &str,
        account: &str,
        server: Option<SocketAddr>,
    ) -> Result<PathBuf> {
        let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), namespace);
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                expiration_seconds: Some(TOKEN_SECONDS),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let answer = accounts
            .create_token_request(account, &kube::api::PostParams::default(), &request)
            .await
            .with_context(|| {
                format!(
                    "asking {} for a token of ServiceAccount {namespace}/{account}",
                    self.name
                )
            })?;
        let token = answer
            .status
            .and_then(|status| status.token)
            .context("an answer without a token")?;
        let server = server.unwrap_or(self.address).to_string();
        let text = kubeconfig(&self.name, &server, &self.path("ca.crt"), account, namespace, &token);
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let path = self.path(&format!("{namespace}-{account}-{number}.kubeconfig"));
        write(&path, &text)?;
        Ok(path)
    }
}

/// What an API server is called: its address, and inside its cluster the Service `kubernetes`, which has the first
/// address of the range.
pub(super) fn names(address: SocketAddr, service_cidr: &str) -> Result<Vec<String>> {
    let base = service_cidr.split('/').next().unwrap_or_default();
    let base: IpAddr = base
        .parse()
        .with_context(|| format!("the range {service_cidr} of Services"))?;
    let service: IpAddr = match base {
        IpAddr::V4(base) => Ipv4Addr::from(u32::from(base) + 1).into(),
        IpAddr::V6(base) => Ipv6Addr::from(u128::from(base) + 1).into(),
    };
    Ok(vec![
        address.ip().to_string(),
        service.to_string(),
        "kubernetes.default.svc".to_owned(),
    ])
}

fn kubeconfig(cluster: &str, server: &str, ca: &Path, user: &str, namespace: &str, token: &str) -> String {
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         current-context: {cluster}\n\
         contexts:\n\
         - name: {cluster}\n\
         \x20 context: {{cluster: {cluster}, user: {user}, namespace: {namespace}}}\n\
         clusters:\n\
         - name: {cluster}\n\
         \x20 cluster: {{server: 'https://{server}', certificate-authority: '{}'}}\n\
         users:\n\
         - name: {user}\n\
         \x20 user: {{token: {token}}}\n",
        ca.display()
    )
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
