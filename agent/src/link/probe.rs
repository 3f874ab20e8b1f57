//! Whether a hub can be reached and takes this agent, without opening a session.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use remote_istio::tls::TlsSource;
use remote_istio::transport::{Connector, HubAddress, Way, open};
use tokio::time::timeout;
use tonic::body::Body;
use tower::ServiceExt as _;

use super::ended::Ended;

/// For the answer to a request that asks for nothing.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// Nothing that a hub serves: any answer at all comes only after it has taken the certificate, which TLS 1.3 does not
/// tell before.
const NOTHING: &str = "/remoteistio.Check/Nothing";

/// Resolves, connects, shakes hands both ways, and makes sure that the hub takes this agent's certificate. Says to which
/// address the connection led.
///
/// # Errors
/// What does not work, in the words that the agent itself would use.
pub async fn probe(tls: &Arc<TlsSource>, way: &Way, address: &HubAddress) -> Result<String, String> {
    let connector = Connector::new(Arc::clone(tls)).via(way.clone());
    let stream = connector.connect(address).await.map_err(|error| error.to_string())?;
    let (error, far) = (stream.link_error(), stream.peer().address.clone());
    let link = open(stream, address).await;
    let link = link.map_err(|failed| Ended::unreachable(&failed, &error).to_string())?;
    let request = Request::post(NOTHING)
        .header(http::header::CONTENT_TYPE, "application/grpc")
        .body(Body::empty())
        .map_err(|error| error.to_string())?;
    let answered = timeout(ANSWER_DEADLINE, link.channel.clone().oneshot(request)).await;
    let result = match answered {
        Ok(Ok(_)) => Ok(far),
        Ok(Err(failed)) => Err(link.error.explain().unwrap_or_else(|| failed.to_string())),
        Err(_) => Err(format!(
            "{address} does not answer a request: is this the hub's sync port?"
        )),
    };
    link.peer.cut();
    result
}
