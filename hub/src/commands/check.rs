//! `check`: whether remotes can reach this hub where it tells them to.

use std::io::Write;
use std::time::Duration;

use futures::future::join_all;
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use remote_istio::transport::{ConnectError, EnrolmentConnector, EnrolmentTrust, HubAddress, Way};
use tokio::time::timeout;

use super::central::Central;
use super::error::CommandError;
use super::published::Published;
use crate::crd::RemoteIstio;
use crate::status::conditions::{CONNECTED, stored};

/// Remotes that are named; of more only the number is said.
const REMOTES_NAMED: usize = 20;

/// Dials each public address as a remote would, within `limit` for each, and writes what came of it.
///
/// # Errors
/// An address does not lead to this hub, there is none yet, or what the hub published cannot be read.
pub(super) async fn check(central: &Central, limit: Duration, out: &mut dyn Write) -> Result<(), CommandError> {
    let link = central.published().await?;
    let addresses = [("sync", &link.hubs), ("enrolment", &link.enrolments)];
    let addresses = addresses
        .iter()
        .flat_map(|(port, all)| all.iter().map(|address| (*port, address)));
    let connector = connector(&link)?;
    let dialled = addresses.map(|(port, address)| dial(&connector, port, address, limit));
    let answers = join_all(dialled).await;
    for answer in &answers {
        writeln!(out, "{}", answer.line())?;
    }
    if let Some(line) = away(central).await {
        writeln!(out, "{line}")?;
    }
    out.flush()?;
    let wrong = answers.iter().filter(|answer| answer.problem.is_some()).count();
    if wrong == 0 {
        return Ok(());
    }
    Err(CommandError::Refused(format!(
        "{wrong} of {} addresses that remotes are told do not lead to this hub: see above",
        answers.len()
    )))
}

fn connector(link: &Published) -> Result<EnrolmentConnector, CommandError> {
    let made = EnrolmentConnector::new(
        EnrolmentTrust::Roots(link.roots.clone()),
        &link.trust_domain,
        Way::Direct,
    );
    made.map_err(|error| CommandError::Refused(format!("the CA that the hub published cannot be used: {error}")))
}

/// What came of one address.
#[derive(Debug)]
struct Answer {
    port: &'static str,
    address: String,
    problem: Option<String>,
}

impl Answer {
    fn line(&self) -> String {
        let Self { port, address, problem } = self;
        match problem {
            None => format!("{port} {address}: ok"),
            Some(problem) => format!("{port} {address}: {problem}"),
        }
    }
}

async fn dial(connector: &EnrolmentConnector, port: &'static str, address: &HubAddress, limit: Duration) -> Answer {
    let problem = match timeout(limit, connector.connect(address)).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(told(&error)),
        Err(_) => Some(format!(
            "no answer within {}: does a firewall stand between?",
            humantime::format_duration(limit)
        )),
    };
    Answer {
        port,
        address: address.to_string(),
        problem,
    }
}

/// Of an agent's words those that speak of an agent are said anew.
fn told(error: &ConnectError) -> String {
    match error {
        ConnectError::UnknownCa(address) => {
            format!(
                "the certificate of {address} is signed by another CA than this hub's: something else answers there"
            )
        }
        ConnectError::WrongName { address, presented } => format!(
            "the certificate of {address} is not for this name, only for {presented}: another hub answers, or it was \
             started with other public addresses"
        ),
        other => other.to_string(),
    }
}

/// Remotes without an agent that is connected: no fault of the hub, but good to know.
async fn away(central: &Central) -> Option<String> {
    let attempted = "the RemoteIstios cannot be listed";
    let all = match central.all::<DeserializeGuard<RemoteIstio>>(attempted).await {
        Ok(all) => all,
        Err(error) => return Some(format!("note: {error}")),
    };
    let total = all.len();
    let is_connected = |remote: &DeserializeGuard<RemoteIstio>| {
        let status = remote.0.as_ref().ok().and_then(|remote| remote.status.as_ref());
        stored(status, CONNECTED).is_some_and(|condition| condition.status == "True")
    };
    let mut names: Vec<String> = all
        .iter()
        .filter(|remote| !is_connected(remote))
        .map(ResourceExt::name_any)
        .collect();
    names.sort();
    let count = names.len();
    if count == 0 {
        return (total > 0).then(|| format!("note: {total} remotes, all connected"));
    }
    let further = match count.saturating_sub(REMOTES_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    names.truncate(REMOTES_NAMED);
    Some(format!(
        "note: {count} of {total} remotes are not connected: {}{further}",
        names.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::ConfigMap;
    use remote_istio::tls::TlsSource;
    use remote_istio::transport::handshake_anonymous;
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::*;
    use crate::authority::{Authority, LinkCa};
    use crate::commands::central::tests::{answered, listed, script};
    use crate::test_authority;

    const LIMIT: Duration = Duration::from_secs(20);

    /// A port that shows the certificate of this authority to whoever comes.
    async fn hub(tls: Arc<TlsSource>, tasks: &mut JoinSet<()>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        tasks.spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                // The other end judges.
                let _ = handshake_anonymous(stream, &tls, peer.to_string()).await;
            }
        });
        port
    }

    fn map(ca: &LinkCa, hubs: &str, enrolments: &str) -> ConfigMap {
        let bundle: String = ca
            .roots()
            .iter()
            .map(|root| remote_istio::enrolment::certificate_pem(root))
            .collect();
        let data = [
            ("ca.crt", bundle),
            ("pin", ca.pin().to_string()),
            ("hubs", hubs.to_owned()),
            ("enrolments", enrolments.to_owned()),
            ("trust-domain", test_authority::TRUST_DOMAIN.to_owned()),
        ];
        ConfigMap {
            data: Some(data.map(|(key, value)| (key.to_owned(), value)).into()),
            ..ConfigMap::default()
        }
    }

    async fn checked(map: ConfigMap) -> (String, Option<String>) {
        let (central, _) = script([answered(map), listed([])]);
        let mut out = Vec::new();
        let ended = check(&central, LIMIT, &mut out).await;
        let text = String::from_utf8(out).expect("UTF-8");
        (text, ended.err().map(|error| error.to_string()))
    }

    fn with_address(ca: &LinkCa) -> Arc<Authority> {
        test_authority::authority(ca, "127.0.0.1:8443")
    }

    #[tokio::test]
    async fn address_that_leads_to_the_hub_is_ok_and_any_other_says_what_is_wrong() {
        let mut tasks = JoinSet::new();
        let ca = test_authority::link_ca();
        let good = hub(with_address(&ca).tls(), &mut tasks).await;
        let foreign = hub(with_address(&test_authority::link_ca()).tls(), &mut tasks).await;
        let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let refused = nobody.local_addr().expect("bound").port();
        drop(nobody);

        let (text, error) = checked(map(&ca, &format!("127.0.0.1:{good}"), &format!("127.0.0.1:{good}"))).await;
        assert_eq!(
            text,
            format!("sync 127.0.0.1:{good}: ok\nenrolment 127.0.0.1:{good}: ok\n")
        );
        assert_eq!(error, None);

        let hubs = format!("localhost:{good},127.0.0.1:{foreign},127.0.0.1:{refused}");
        let (text, error) = checked(map(&ca, &hubs, &format!("no.such.name.invalid:{good}"))).await;
        let lines: Vec<&str> = text.lines().collect();
        for (line, part) in lines.iter().zip([
            "is not for this name, only for",
            "is signed by another CA than this hub's",
            "refused the connection",
            "cannot resolve",
        ]) {
            assert!(line.contains(part), "{part} in {text}");
        }
        assert_eq!(lines.len(), 4);
        let error = error.expect("a failure");
        assert!(error.starts_with("4 of 4 addresses"), "{error}");
    }

    #[tokio::test]
    async fn hub_without_an_address_says_which_service_has_none() {
        let ca = test_authority::link_ca();
        let mut map = map(&ca, "", "");
        let service = BTreeMap::from([("public-service".to_owned(), "remote-istio-hub".to_owned())]);
        map.data.as_mut().expect("data").extend(service);
        let (text, error) = checked(map).await;
        assert_eq!(text, "");
        let error = error.expect("a failure");
        assert!(error.starts_with("the hub has no public address yet"), "{error}");
        assert!(
            error.contains("kubectl -n mesh get service remote-istio-hub"),
            "{error}"
        );
    }
}
