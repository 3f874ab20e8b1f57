//! The request for an intermediate CA, over the connection of the session that stands.

use std::time::{Duration, SystemTime};

use remote_istio::limits;
use remote_istio::wire::v1;
use remote_istio::wire::v1::mesh_ca_client::MeshCaClient;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::chain::Issued;
use super::key::CaKey;
use crate::identity::pauses::Failure;

/// One request; longer than the hub's own deadline, so that the hub's words come through.
const DEADLINE: Duration = Duration::from_secs(15);

/// Has the hub sign a CA of this key. The error says why there is none.
pub(super) async fn sign(channel: Channel, key: &CaKey) -> Result<Issued, Failure> {
    let request = key.request().map_err(|error| Failure::Own(error.to_string()))?;
    let mut client = MeshCaClient::new(channel)
        .max_decoding_message_size(limits::ENROLMENT_MESSAGE_BYTES)
        .max_encoding_message_size(limits::ENROLMENT_MESSAGE_BYTES);
    let answer = timeout(DEADLINE, client.sign(v1::SignRequest { request })).await;
    let answer = answer.map_err(|_| Failure::Unreachable("the hub did not answer in time".to_owned()))?;
    let answer = answer.map_err(|status| failure(&status))?.into_inner();
    Issued::read(answer, key, SystemTime::now()).map_err(Failure::Unusable)
}

/// What a refusal by the hub means; its words are for people, and come through.
fn failure(status: &Status) -> Failure {
    let text = limits::detail(status.message());
    match status.code() {
        Code::PermissionDenied => Failure::Refused(format!("the hub does not sign for this remote: {text}")),
        Code::FailedPrecondition => Failure::Refused(format!("the hub cannot sign: {text}")),
        Code::Unauthenticated | Code::InvalidArgument => Failure::Refused(format!("the hub refuses to sign: {text}")),
        Code::Unimplemented => Failure::Refused("this hub cannot sign for the mesh: upgrade it".to_owned()),
        Code::ResourceExhausted => Failure::Busy(format!("the hub was asked too often: {text}")),
        code => Failure::Unreachable(format!("the hub did not sign: {text} ({code:?})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_hub_come_through_and_tell_when_to_ask_again() {
        for (code, word) in [
            (Code::PermissionDenied, "refused"),
            (Code::FailedPrecondition, "refused"),
            (Code::InvalidArgument, "refused"),
            (Code::ResourceExhausted, "busy"),
            (Code::Unavailable, "unreachable"),
        ] {
            let failure = failure(&Status::new(code, "the remedy"));
            assert_eq!(failure.as_str(), word, "{code:?}");
            assert!(failure.to_string().contains("the remedy"), "{failure}");
        }
    }
}
