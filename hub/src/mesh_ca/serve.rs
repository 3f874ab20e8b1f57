//! The `MeshCa` service of the sync port.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use remote_istio::identity::{Identity, RemoteName};
use remote_istio::limits;
use remote_istio::model::{Body, Lane};
use remote_istio::tls::{NotAdmitted, Peer};
use remote_istio::wire::v1;
use remote_istio::wire::v1::mesh_ca_server::{MeshCa as Service, MeshCaServer};
use tonic::{Request, Response, Status};

use super::MeshCa;
use super::issue::Intermediate;
use super::problem::MeshCaProblem;
use crate::authority::{CertificateRequest, RequestError};
use crate::clock;
use crate::enrolment::RecordError;
use crate::events::{Kind, Reason, Subject};
use crate::identities::judge;
use crate::index::MeshCaState;

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
enum SignError {
    #[error("the connection carries no identity")]
    Nobody,
    #[error("only a remote is given a CA here")]
    NotARemote,
    #[error("{0}")]
    NotAdmitted(#[from] NotAdmitted),
    #[error("signing for the mesh is not granted on central: its operator grants it with --sign-mesh-ca of the hub")]
    NotGranted,
    #[error("the RemoteIstio {0} asks for no Citadel: set spec.citadel on central")]
    NotWanted(RemoteName),
    #[error("more intermediates than a remote may have in a minute: ask again in {} seconds", .0.as_secs() + 1)]
    TooMany(Duration),
    #[error("{0}")]
    Invalid(#[from] RequestError),
    #[error("{0}")]
    NoCa(String),
    #[error("central's mesh CA is just being read or changed, ask again")]
    Changing,
    #[error("central cannot answer now, ask again: {0}")]
    Records(#[from] RecordError),
    #[error("central's mesh CA cannot sign: {0}")]
    Signing(#[from] MeshCaProblem),
}

impl SignError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Nobody | Self::NotARemote => "not_a_remote",
            Self::NotAdmitted(_) => "not_admitted",
            Self::NotGranted => "not_granted",
            Self::NotWanted(_) => "not_wanted",
            Self::TooMany(_) => "limited",
            Self::Invalid(_) => "invalid",
            Self::NoCa(_) => "no_ca",
            Self::Changing | Self::Records(_) | Self::Signing(_) => "failed",
        }
    }

    fn status(&self) -> Status {
        let text = limits::detail(self.to_string());
        match self {
            Self::Nobody => Status::unauthenticated(text),
            Self::NotARemote | Self::NotAdmitted(_) | Self::NotGranted | Self::NotWanted(_) => {
                Status::permission_denied(text)
            }
            Self::TooMany(_) => Status::resource_exhausted(text),
            Self::Invalid(_) => Status::invalid_argument(text),
            Self::NoCa(_) | Self::Signing(_) => Status::failed_precondition(text),
            Self::Changing | Self::Records(_) => Status::unavailable(text),
        }
    }
}

impl MeshCa {
    /// The service, to be served beside Sync.
    #[must_use]
    pub fn service(self: &Arc<Self>) -> MeshCaServer<Self> {
        MeshCaServer::from_arc(Arc::clone(self))
            .max_decoding_message_size(limits::REQUEST_MAX_BYTES + 64)
            .max_encoding_message_size(limits::FRAME_MAX_BYTES)
    }

    async fn answer(&self, peer: Option<&Arc<Peer>>, request: &v1::SignRequest) -> Result<v1::SignResponse, SignError> {
        let peer = peer.ok_or(SignError::Nobody)?;
        let Identity::Remote(remote) = &peer.identity else {
            return Err(SignError::NotARemote);
        };
        self.deps.admission.admit_open(peer)?;
        if !self.settings.is_granted {
            return Err(SignError::NotGranted);
        }
        self.refuse_unwanted(remote)?;
        self.pace
            .lock()
            .admit(remote, clock::now())
            .map_err(SignError::TooMany)?;
        let asked = CertificateRequest::check_of_mesh(&request.request)?;
        // As it is now: the watch of a replica that is cut off from central shows what was.
        if let Some(records) = &self.deps.records {
            let record = records.identity(remote).await?;
            judge(record.as_ref().map(|record| &record.spec), peer.not_before, false)?;
        }
        let (signer, trust) = self.signing().ok_or_else(|| self.no_ca())?;
        let wanted = Intermediate {
            remote,
            trust_domain: &self.settings.trust_domain,
            lifetime: self.settings.lifetime,
        };
        let intermediate = signer.sign(&asked, &wanted, SystemTime::now())?;
        let ends = crate::authority::certificate::shown(intermediate.not_after);
        tracing::info!(%remote, serial = %intermediate.serial, key = %asked.key(), %ends, "intermediate CA of the mesh signed");
        let note = format!(
            "signed CA of the mesh, serial {}, good until {ends}",
            intermediate.serial
        );
        let subject = Subject::Remote(remote.clone());
        self.deps
            .events
            .publish(subject, Kind::Normal, Reason::MeshCaSigned, note);
        Ok(v1::SignResponse {
            chain: intermediate.chain.iter().map(|der| der.to_vec()).collect(),
            trust: Some(trust),
        })
    }

    /// A remote is signed for only as long as it is told to have a Citadel by this trust.
    fn refuse_unwanted(&self, remote: &RemoteName) -> Result<(), SignError> {
        let desired = self.deps.state.desired(remote);
        let desired = desired.ok_or_else(|| SignError::NotWanted(remote.clone()))?;
        let Some(lane) = desired.lanes.get(&Lane::Config) else {
            return Err(SignError::Changing);
        };
        let mut bodies = lane.objects().values().map(|object| &object.body);
        if bodies.clone().any(|body| matches!(body, Body::Trust(_))) {
            return Ok(());
        }
        if bodies.any(|body| matches!(body, Body::Citadel(_))) {
            return Err(self.no_ca());
        }
        Err(SignError::NotWanted(remote.clone()))
    }

    fn no_ca(&self) -> SignError {
        match &self.told.lock().state {
            MeshCaState::NotGranted => SignError::NotGranted,
            MeshCaState::Missing(reason) | MeshCaState::CannotSign(reason) => SignError::NoCa(reason.clone()),
            MeshCaState::Unknown | MeshCaState::Unreadable(_) | MeshCaState::Ready | MeshCaState::Held(_) => {
                SignError::Changing
            }
        }
    }
}

#[tonic::async_trait]
impl Service for MeshCa {
    async fn sign(&self, request: Request<v1::SignRequest>) -> Result<Response<v1::SignResponse>, Status> {
        let peer = request.extensions().get::<Arc<Peer>>().cloned();
        match self.answer(peer.as_ref(), request.get_ref()).await {
            Ok(signed) => {
                self.deps.metrics.intermediate("signed");
                Ok(Response::new(signed))
            }
            Err(error) => {
                self.deps.metrics.intermediate(error.reason());
                let peer = peer.as_deref();
                let identity = peer.map(|peer| peer.identity.uri(&self.settings.trust_domain));
                let address = peer.map_or("", |peer| peer.address.as_str());
                let (reason, identity) = (error.reason(), identity.unwrap_or_default());
                tracing::debug!(%identity, address, reason, %error, "no CA of the mesh was signed");
                Err(error.status())
            }
        }
    }
}
