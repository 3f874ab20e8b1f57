use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use remote_istio::enrolment::verify_proof;
use remote_istio::transport::{AcceptBounds, Caller, accept_anonymous_loop, server_builder};
use remote_istio::wire::v1::enrolment_server::{Enrolment, EnrolmentServer};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response};

use super::*;
use crate::identity::kept::tests::kept_of;
use crate::test_ca::{TRUST_DOMAIN, TestCa, Validity};

/// What the scripted hub does with one join.
pub(in crate::identity) type Script =
    Box<dyn Fn(usize, &v1::JoinRequest) -> Result<v1::JoinResponse, Status> + Send + Sync>;

/// A hub's enrolment port that does what the test says.
pub(in crate::identity) struct ScriptedEnrolment {
    pub(in crate::identity) ca: Arc<TestCa>,
    pub(in crate::identity) address: HubAddress,
    pub(in crate::identity) served: Arc<Served>,
    _tasks: JoinSet<()>,
    _folder: TempDir,
}

pub(in crate::identity) struct Served {
    ca: Arc<TestCa>,
    script: Script,
    trust: Trust,
    pub(in crate::identity) joins: Mutex<Vec<v1::JoinRequest>>,
    pub(in crate::identity) recoveries: Mutex<Vec<v1::RecoverRequest>>,
    pub(in crate::identity) refuse_recovery: Mutex<Option<Status>>,
    count: AtomicUsize,
}

struct Service(Arc<Served>);

#[tonic::async_trait]
impl Enrolment for Service {
    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        let request = request.into_inner();
        self.0.joins.lock().push(request.clone());
        let number = self.0.count.fetch_add(1, Ordering::SeqCst);
        (self.0.script)(number, &request).map(Response::new)
    }

    async fn recover(&self, request: Request<v1::RecoverRequest>) -> Result<Response<v1::Issued>, Status> {
        let caller = request.extensions().get::<Arc<Caller>>().expect("a caller").clone();
        let request = request.into_inner();
        self.0.recoveries.lock().push(request.clone());
        if let Some(status) = self.0.refuse_recovery.lock().clone() {
            return Err(status);
        }
        verify_proof(&request.chain[0], &caller.exporter, &request.request, &request.proof)
            .map_err(|error| Status::permission_denied(error.to_string()))?;
        let chain = self
            .0
            .ca
            .certify(&request.request, "remote/remote-1", Validity::fresh());
        let trust = Some(self.0.trust.write());
        Ok(Response::new(v1::Issued { chain, trust }))
    }
}

impl ScriptedEnrolment {
    /// `script` is given the number of the join, from 0, and the request.
    pub(in crate::identity) async fn start(ca: TestCa, script: impl FnOnce(Issuer) -> Script) -> Self {
        let ca = Arc::new(ca);
        let (tls, folder) = ca.source("hub", &ca);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = format!("localhost:{}", listener.local_addr().expect("bound").port());
        let issuer = Issuer {
            ca: Arc::clone(&ca),
            trust: ca.trust(3, "hub.test:8444", &address),
        };
        let served = Arc::new(Served {
            ca: Arc::clone(&ca),
            trust: issuer.trust.clone(),
            script: script(issuer),
            joins: Mutex::default(),
            recoveries: Mutex::default(),
            refuse_recovery: Mutex::default(),
            count: AtomicUsize::default(),
        });
        let stop = CancellationToken::new();
        let (ready, running) = accept_anonymous_loop(listener, tls, stop, Arc::new(|_| {}), AcceptBounds::ENROLMENT);
        let mut tasks = JoinSet::new();
        tasks.spawn(running);
        let service = EnrolmentServer::new(Service(Arc::clone(&served)));
        tasks.spawn(async move {
            let router = server_builder().add_service(service);
            router.serve_with_incoming(ready).await.expect("the server runs");
        });
        Self {
            ca,
            address: address.parse().expect("an address"),
            served,
            _tasks: tasks,
            _folder: folder,
        }
    }

    pub(in crate::identity) fn enroller(&self) -> Enroller {
        Enroller {
            enrolments: vec![self.address.clone()],
            pins: vec![self.ca.pin()],
            trust_domain: Some(TRUST_DOMAIN.to_owned()),
            token_file: "/nowhere/token".into(),
            way: Way::Direct,
            cluster_uid: "uid".to_owned(),
            release: "0.1.0".to_owned(),
        }
    }
}

/// Answers joins as a hub would.
#[derive(Clone)]
pub(in crate::identity) struct Issuer {
    ca: Arc<TestCa>,
    pub(in crate::identity) trust: Trust,
}

impl Issuer {
    pub(in crate::identity) fn issue(&self, request: &[u8], path: &str, validity: Validity) -> v1::JoinResponse {
        let issued = v1::Issued {
            chain: self.ca.certify(request, path, validity),
            trust: Some(self.trust.write()),
        };
        v1::JoinResponse {
            outcome: Some(Outcome::Issued(issued)),
        }
    }

    /// Each join is answered with a certificate of remote-1.
    pub(in crate::identity) fn always(self) -> Script {
        Box::new(move |_, request| Ok(self.issue(&request.request, "remote/remote-1", Validity::fresh())))
    }
}

pub(in crate::identity) fn token() -> Token {
    Token::new([7; 5], [7; 32])
}

fn key() -> PrivateKey {
    PrivateKey::generate().expect("a key")
}

async fn joined(script: impl FnOnce(Issuer) -> Script) -> Result<Issued, Failure> {
    let hub = ScriptedEnrolment::start(TestCa::new(), script).await;
    hub.enroller().join(&token(), &key()).await
}

#[tokio::test]
async fn join_shows_the_token_and_brings_certificate_and_trust() {
    let hub = ScriptedEnrolment::start(TestCa::new(), Issuer::always).await;
    let key = key();
    let issued = hub.enroller().join(&token(), &key).await.expect("joined");
    assert_eq!(issued.certificate.remote.as_str(), "remote-1");
    assert_eq!(issued.trust, hub.ca.trust(3, "hub.test:8444", &hub.address.to_string()));
    let joins = hub.served.joins.lock().clone();
    let [request] = joins.as_slice() else {
        panic!("not one join")
    };
    assert_eq!(
        (
            request.token.as_str(),
            request.cluster_uid.as_str(),
            request.release.as_str()
        ),
        (token().reveal().as_str(), "uid", "0.1.0")
    );
}

#[tokio::test]
async fn what_the_hub_says_decides_what_is_done_next() {
    let says = |status: fn() -> Status| move |_: Issuer| -> Script { Box::new(move |_, _| Err(status())) };
    assert_eq!(
        joined(says(|| Status::unauthenticated("the token is not accepted")))
            .await
            .expect_err("no"),
        Failure::Refused("the token is not accepted".to_owned())
    );
    assert_eq!(
        joined(says(|| Status::failed_precondition("another cluster")))
            .await
            .expect_err("no"),
        Failure::Refused("another cluster".to_owned())
    );
    assert_eq!(
        joined(says(|| Status::resource_exhausted("too often")))
            .await
            .expect_err("no"),
        Failure::Busy("too often".to_owned())
    );
    let away = joined(says(|| Status::unavailable("stopping"))).await.expect_err("no");
    assert!(
        matches!(&away, Failure::Unreachable(text) if text.contains("stopping")),
        "{away:?}"
    );
    let pending = |_: Issuer| -> Script {
        Box::new(|_, _| {
            let pending = v1::Pending {
                message: "approve it".to_owned(),
                retry_milliseconds: 2_000,
            };
            Ok(v1::JoinResponse {
                outcome: Some(Outcome::Pending(pending)),
            })
        })
    };
    let expected = Failure::Pending("approve it".to_owned(), Duration::from_secs(2));
    assert_eq!(joined(pending).await.expect_err("not yet"), expected);
}

#[tokio::test]
async fn answer_that_does_not_fit_the_request_is_not_used() {
    let of_another_key = |issuer: Issuer| -> Script {
        let other = key().request().expect("a request");
        Box::new(move |_, _| Ok(issuer.issue(&other, "remote/remote-1", Validity::fresh())))
    };
    let of_no_remote = |issuer: Issuer| -> Script {
        Box::new(move |_, request| Ok(issuer.issue(&request.request, "hub", Validity::fresh())))
    };
    let of_another_domain = |mut issuer: Issuer| -> Script {
        issuer.trust.trust_domain = "other.test".to_owned();
        issuer.always()
    };
    let empty = |_: Issuer| -> Script { Box::new(|_, _| Ok(v1::JoinResponse::default())) };
    for (failure, words) in [
        (joined(of_another_key).await, "another key"),
        (joined(of_no_remote).await, "not for a remote"),
        (joined(of_another_domain).await, "--trust-domain"),
        (joined(empty).await, "empty"),
    ] {
        let failure = failure.expect_err(words);
        assert!(matches!(failure, Failure::Unusable(_)), "{failure:?}");
        assert!(failure.to_string().contains(words), "{failure}");
    }
}

#[tokio::test]
async fn token_is_shown_to_no_hub_of_another_pin() {
    let hub = ScriptedEnrolment::start(TestCa::new(), Issuer::always).await;
    let enroller = Enroller {
        pins: vec![TestCa::new().pin()],
        ..hub.enroller()
    };
    let failure = enroller.join(&token(), &key()).await.expect_err("another CA");
    assert!(failure.to_string().contains(&hub.ca.pin().to_string()), "{failure}");
    assert_eq!(hub.served.joins.lock().len(), 0);
}

#[tokio::test]
async fn next_address_is_tried_when_the_first_does_not_answer() {
    let hub = ScriptedEnrolment::start(TestCa::new(), Issuer::always).await;
    let enroller = Enroller {
        enrolments: vec!["localhost:1".parse().expect("an address"), hub.address.clone()],
        ..hub.enroller()
    };
    enroller.join(&token(), &key()).await.expect("joined by the second");
}

#[tokio::test]
async fn recovery_is_proven_by_the_old_key_on_its_connection() {
    let hub = ScriptedEnrolment::start(TestCa::new(), Issuer::always).await;
    let mut kept = kept_of(&hub.ca, Validity::ended());
    kept.trust = hub.ca.trust(3, "hub.test:8444", &hub.address.to_string());
    let enroller = Enroller {
        enrolments: vec![],
        pins: vec![],
        ..hub.enroller()
    };
    let key = key();
    let issued = enroller.recover(&kept, &key).await.expect("recovered");
    assert!(key.fits(&issued.certificate.chain[0]));
    let other = Kept {
        key: Arc::new(PrivateKey::generate().expect("a key")),
        ..kept
    };
    let failure = enroller.recover(&other, &key).await.expect_err("another key");
    assert!(matches!(failure, Failure::Refused(_)), "{failure:?}");
}

#[tokio::test]
async fn hub_of_another_ca_does_not_end_the_search_and_is_told_from_one_that_is_away() {
    let (stranger, hub) = (
        ScriptedEnrolment::start(TestCa::new(), Issuer::always).await,
        ScriptedEnrolment::start(TestCa::new(), Issuer::always).await,
    );
    let away: HubAddress = "localhost:1".parse().expect("an address");
    let recover = async |enrolments: &[&HubAddress]| {
        let mut kept = kept_of(&hub.ca, Validity::ended());
        kept.trust.enrolments = enrolments.iter().map(|address| (*address).clone()).collect();
        let enroller = Enroller {
            enrolments: vec![],
            ..hub.enroller()
        };
        enroller.recover(&kept, &key()).await
    };
    recover(&[&stranger.address, &hub.address])
        .await
        .expect("recovered by the second");
    let failure = recover(&[&stranger.address]).await.expect_err("a stranger");
    assert!(matches!(failure, Failure::Untrusted(_)), "{failure:?}");
    let failure = recover(&[&stranger.address, &away]).await.expect_err("one is away");
    assert!(matches!(failure, Failure::Unreachable(_)), "{failure:?}");
    assert_eq!(stranger.served.recoveries.lock().len(), 0);
}

#[tokio::test]
async fn recovered_certificate_of_another_remote_is_not_used() {
    let hub = ScriptedEnrolment::start(TestCa::new(), Issuer::always).await;
    let mut kept = kept_of(&hub.ca, Validity::ended());
    kept.trust = hub.ca.trust(3, "hub.test:8444", &hub.address.to_string());
    kept.certificate.remote = remote_istio::identity::RemoteName::new("remote-0").expect("a label");
    let failure = hub.enroller().recover(&kept, &key()).await.expect_err("another remote");
    let expected = "the certificate stands for remote-1, not for remote-0";
    assert_eq!(failure, Failure::Unusable(expected.to_owned()));
}
