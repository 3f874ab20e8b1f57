mod edges;

use std::fs;
use std::path::PathBuf;

use parking_lot::Mutex;
use remote_istio::enrolment::Trust;
use remote_istio::wire::v1::identity_server::{Identity, IdentityServer};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status};

use super::*;
use crate::identity::calls::Enroller;
use crate::identity::calls::tests::{Issuer, Script, ScriptedEnrolment, token};
use crate::identity::kept::Contents;
use crate::identity::kept::tests::kept_of;
use crate::identity::store::tests::{IDENTITY, Secrets};
use crate::metrics::Metrics;
use crate::test_ca::{TRUST_DOMAIN, TestCa, Validity};

/// Fails a test that hangs; far more than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// Renews as a hub would, or refuses.
struct Renewals {
    ca: Arc<TestCa>,
    trust: Trust,
    refuse: Mutex<Option<Status>>,
    requests: Mutex<Vec<Vec<u8>>>,
}

struct Service(Arc<Renewals>);

#[tonic::async_trait]
impl Identity for Service {
    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::Issued>, Status> {
        let request = request.into_inner().request;
        self.0.requests.lock().push(request.clone());
        if let Some(status) = self.0.refuse.lock().take() {
            return Err(status);
        }
        let chain = self.0.ca.certify(&request, "remote/remote-1", Validity::fresh());
        let trust = Some(self.0.trust.write());
        Ok(Response::new(v1::Issued { chain, trust }))
    }
}

/// A keeper that runs, and the test in place of its link.
struct Bench {
    secrets: Arc<Secrets>,
    renewals: Arc<Renewals>,
    hub: ScriptedEnrolment,
    tls: Arc<TlsSource>,
    guide: watch::Receiver<Guide>,
    trusts: mpsc::Sender<Question<v1::Trust>>,
    channel: watch::Sender<Option<Channel>>,
    refused: watch::Sender<Option<Refused>>,
    token_file: PathBuf,
    serial: String,
    tasks: JoinSet<Result<(), KeeperError>>,
    server: JoinSet<()>,
    _folder: TempDir,
}

fn old() -> Validity {
    Validity::issued(Duration::from_hours(20), Duration::from_hours(24))
}

impl Bench {
    /// With a certificate of this age, and with a change of what is kept and of what the hub says.
    async fn new(validity: Validity, change: impl FnOnce(&mut Kept, &mut Trust)) -> Self {
        let (mut bench, keeper) = Self::idle(validity, change, Issuer::always).await;
        bench.tasks.spawn(keeper.run(CancellationToken::new()));
        bench
    }

    /// The keeper does nothing by itself.
    async fn idle(
        validity: Validity,
        change: impl FnOnce(&mut Kept, &mut Trust),
        script: impl FnOnce(Issuer) -> Script,
    ) -> (Self, Keeper) {
        let hub = ScriptedEnrolment::start(TestCa::new(), script).await;
        let mut trust = hub.ca.trust(3, "hub.test:8444", &hub.address.to_string());
        let mut kept = kept_of(&hub.ca, validity);
        kept.trust = trust.clone();
        change(&mut kept, &mut trust);
        let folder = tempfile::tempdir().expect("a folder");
        let token_file = folder.path().join("token");
        let secrets = Secrets::new();
        secrets.hold(&kept);
        let enroller = Enroller {
            token_file: token_file.clone(),
            ..hub.enroller()
        };
        let tools = Tools {
            store: secrets.store(),
            enroller,
            metrics: Metrics::new().0,
        };
        let tls = TlsSource::from_material(&kept.material(), "Secret", TRUST_DOMAIN).expect("good material");
        let (guide_tx, guide) = watch::channel(Guide::default());
        let (trusts, trusts_asked) = mpsc::channel(4);
        let (channel, channel_seen) = watch::channel(None);
        let (refused, refused_seen) = watch::channel(None);
        let established = Established {
            tools: Arc::new(tools),
            kept,
            next: None,
            saved: true,
            fresh: false,
        };
        let parts = KeeperParts {
            tls: Arc::clone(&tls),
            hubs: vec!["flag.test:8444".parse().expect("an address")],
            guide: guide_tx,
            trusts: trusts_asked,
            channel: channel_seen,
            refused: refused_seen,
        };
        let keeper = Keeper::new(established, parts);
        let renewals = Arc::new(Renewals {
            ca: Arc::clone(&hub.ca),
            trust,
            refuse: Mutex::default(),
            requests: Mutex::default(),
        });
        let bench = Self {
            secrets,
            hub,
            serial: tls.own().serial,
            tls,
            guide,
            trusts,
            channel,
            refused,
            token_file,
            tasks: JoinSet::new(),
            server: JoinSet::new(),
            _folder: folder,
            renewals,
        };
        (bench, keeper)
    }

    /// The session stands from here on.
    async fn connect(&mut self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let service = IdentityServer::new(Service(Arc::clone(&self.renewals)));
        self.server.spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            let server = Server::builder().add_service(service).serve_with_incoming(incoming);
            server.await.expect("the server runs");
        });
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URI");
        let channel = endpoint.connect().await.expect("it listens");
        self.channel.send_replace(Some(channel));
    }

    async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !is_so(self) {
                if let Some(ended) = self.tasks.try_join_next() {
                    panic!("the keeper ended: {ended:?}");
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect(what);
    }

    async fn until_renewed(&mut self) {
        self.until("another certificate in use and kept", |bench| {
            bench.tls.own().serial != bench.serial && !bench.secrets.entries(IDENTITY).contains_key("next.key")
        })
        .await;
    }

    /// Whatever was due when this was called is done when it returns: what is due is done before the next question.
    async fn pass(&self) {
        for _ in 0..3 {
            let kept = self.answer_to(&self.kept().await.trust.write()).await.0;
            assert_eq!(kept.failure, "");
        }
    }

    async fn kept(&self) -> Kept {
        match self.secrets.store().read().await.expect("read") {
            (Contents::Kept(kept), _) => *kept,
            other => panic!("no identity: {other:?}"),
        }
    }

    fn requests(&self) -> usize {
        self.renewals.requests.lock().len()
    }

    /// What the keeper answers to this trust.
    async fn answer_to(&self, trust: &v1::Trust) -> (v1::TrustKept, mpsc::Receiver<Frame>) {
        let (answers, mut answered) = mpsc::channel(4);
        let question = Question {
            asked: trust.clone(),
            answers,
        };
        self.trusts.send(question).await.expect("the keeper listens");
        (next_answer(&mut answered).await, answered)
    }
}

async fn next_answer(answered: &mut mpsc::Receiver<Frame>) -> v1::TrustKept {
    let answer = tokio::time::timeout(PATIENCE, answered.recv()).await.expect("in time");
    match answer {
        Some(Frame::TrustKept(kept)) => kept,
        other => panic!("no answer: {other:?}"),
    }
}

#[tokio::test]
async fn certificate_is_renewed_with_a_fresh_key_over_the_session_and_kept() {
    let mut bench = Bench::new(old(), |_, _| {}).await;
    let before = bench.kept().await;
    bench.connect().await;
    bench.until_renewed().await;
    let after = bench.kept().await;
    assert_ne!(after.key.pem(), before.key.pem());
    assert!(after.key.fits(&after.certificate.chain[0]));
    assert!(after.certificate.not_after > before.certificate.not_after);
    bench.pass().await;
    assert_eq!(bench.requests(), 1);
    assert!(bench.guide.borrow().issued_at.is_some());
}

#[tokio::test]
async fn fresh_certificate_is_left_alone() {
    let mut bench = Bench::new(Validity::fresh(), |_, _| {}).await;
    bench.connect().await;
    bench.pass().await;
    assert_eq!(bench.requests(), 0);
}

#[tokio::test]
async fn renewal_that_fails_is_tried_again_and_the_old_certificate_stays_meanwhile() {
    let mut bench = Bench::new(old(), |_, _| {}).await;
    *bench.renewals.refuse.lock() = Some(Status::unavailable("no signer"));
    bench.connect().await;
    bench.until("the first attempt", |bench| bench.requests() == 1).await;
    assert_eq!(bench.tls.own().serial, bench.serial);
    bench.until_renewed().await;
    let requests = bench.renewals.requests.lock().clone();
    assert_eq!(requests.len(), 2);
}

#[tokio::test]
async fn no_renewal_is_asked_for_while_its_key_cannot_be_kept() {
    let mut bench = Bench::new(old(), |_, _| {}).await;
    bench.secrets.fail(507, 1);
    bench.connect().await;
    bench.until("the refused write", |bench| !bench.secrets.failing()).await;
    assert_eq!(bench.requests(), 0);
    bench.until_renewed().await;
}

#[tokio::test]
async fn certificate_of_another_signer_is_renewed_soon() {
    let (new, short) = (TestCa::new(), Validity::issued(Duration::ZERO, Duration::from_secs(30)));
    let mut bench = Bench::new(short, |kept, trust| {
        let rolled = new.trust(4, "hub.test:8444", "hub.test:8443");
        for trust in [&mut kept.trust, trust] {
            trust.roots.extend(rolled.roots.clone());
            trust.signer = rolled.signer;
        }
    })
    .await;
    bench.connect().await;
    bench.until_renewed().await;
}

#[tokio::test]
async fn trust_of_the_stream_is_kept_used_and_confirmed() {
    let mut bench = Bench::new(Validity::fresh(), |_, _| {}).await;
    let other = TestCa::new();
    let mut trust = other.trust(4, "new.test:8444", "new.test:8443");
    trust.roots.extend(bench.renewals.trust.roots.clone());
    let (kept, _) = bench.answer_to(&trust.write()).await;
    let expected = v1::TrustKept {
        epoch: 4,
        digest: trust.digest().to_vec(),
        failure: String::new(),
    };
    assert_eq!(kept, expected);
    assert_eq!(bench.kept().await.trust, trust);
    let guide = bench.guide.borrow_and_update().clone();
    assert_eq!(guide.hubs.first, trust.hubs);
    assert_eq!(guide.hubs.last, ["flag.test:8444".parse().expect("an address")]);
    assert_eq!(guide.trust, Some(trust.digest()));
    assert_eq!(bench.tls.status().borrow().reloads, 1, "the new roots are in use");
}

#[tokio::test]
async fn trust_that_cannot_be_kept_is_said_so_and_confirmed_once_it_is() {
    let bench = Bench::new(Validity::fresh(), |_, _| {}).await;
    let held = bench.renewals.trust.clone();
    let trust = Trust {
        epoch: 4,
        ..held.clone()
    };
    bench.secrets.fail(507, 1);
    let (kept, mut answered) = bench.answer_to(&trust.write()).await;
    assert!(kept.failure.contains("507"), "{kept:?}");
    assert_eq!((kept.epoch, kept.digest), (3, held.digest().to_vec()));
    let kept = next_answer(&mut answered).await;
    assert_eq!(
        (kept.failure.as_str(), kept.epoch, kept.digest),
        ("", 4, trust.digest().to_vec())
    );
}

#[tokio::test]
async fn trust_that_breaks_the_contract_changes_nothing() {
    let bench = Bench::new(Validity::fresh(), |_, _| {}).await;
    let good = bench.renewals.trust.clone();
    let of_another_domain = v1::Trust {
        trust_domain: "other.test".to_owned(),
        ..good.write()
    };
    let without_roots = v1::Trust {
        roots: vec![],
        ..good.write()
    };
    for wrong in [of_another_domain, without_roots] {
        let (kept, _) = bench.answer_to(&wrong).await;
        assert!(!kept.failure.is_empty());
        assert_eq!((kept.epoch, kept.digest), (3, good.digest().to_vec()));
    }
    assert_eq!(bench.kept().await.trust, good);
}

#[tokio::test]
async fn certificate_that_the_hub_calls_expired_is_recovered() {
    let mut bench = Bench::new(Validity::fresh(), |_, _| {}).await;
    bench.refused.send_replace(Some(Refused::Expired));
    bench.until_renewed().await;
    assert_eq!(bench.hub.served.recoveries.lock().len(), 1);
}

#[tokio::test]
async fn agent_that_the_hub_does_not_know_joins_again_by_a_new_token_only() {
    let mut bench = Bench::new(Validity::fresh(), |kept, _| kept.token = Some(token().id().to_owned())).await;
    fs::write(&bench.token_file, token().reveal()).expect("written");
    bench.refused.send_replace(Some(Refused::NotKnown));
    let (kept, _) = bench.answer_to(&bench.renewals.trust.write()).await;
    assert_eq!(kept.failure, "");
    assert_eq!(
        bench.hub.served.joins.lock().len(),
        0,
        "the token is the one that was redeemed"
    );
    let new = remote_istio::enrolment::Token::new([8; 5], [8; 32]);
    fs::write(&bench.token_file, new.reveal()).expect("written");
    bench.until_renewed().await;
    assert_eq!(bench.kept().await.token.as_deref(), Some(new.id()));
}

#[tokio::test]
async fn token_of_another_name_makes_the_agent_start_anew() {
    let mut bench = Bench::new(Validity::fresh(), |kept, _| {
        kept.certificate.remote = remote_istio::identity::RemoteName::new("remote-0").expect("a label");
    })
    .await;
    fs::write(&bench.token_file, token().reveal()).expect("written");
    bench.refused.send_replace(Some(Refused::NotKnown));
    let ended = tokio::time::timeout(PATIENCE, bench.tasks.join_next())
        .await
        .expect("in time");
    let error = ended.expect("one task").expect("no panic").expect_err("it starts anew");
    assert_eq!(
        error.to_string(),
        "the new token is of remote-1 of mesh.test, this agent ran as remote-0 of mesh.test: it starts anew"
    );
    assert_eq!(bench.kept().await.certificate.remote.as_str(), "remote-1");
}

#[tokio::test]
async fn join_whose_certificate_cannot_be_used_is_tried_again_with_the_same_key() {
    let ended_at_first = |issuer: Issuer| -> Script {
        Box::new(move |number, request| {
            let validity = if number == 0 {
                Validity::ended()
            } else {
                Validity::fresh()
            };
            Ok(issuer.issue(&request.request, "remote/remote-1", validity))
        })
    };
    let (bench, mut keeper) = Bench::idle(Validity::fresh(), |_, _| {}, ended_at_first).await;
    fs::write(&bench.token_file, token().reveal()).expect("written");
    keeper.rejoin().await.expect("no other name");
    assert_eq!(bench.tls.own().serial, bench.serial, "an ended certificate is not used");
    let next = bench.secrets.entries(IDENTITY)["next.key"].clone();
    // As when a new trust comes meanwhile.
    keeper.save().await;
    keeper.rejoin().await.expect("no other name");
    assert_eq!(bench.hub.served.joins.lock().len(), 2);
    let kept = bench.kept().await;
    assert_eq!(
        (kept.token.as_deref(), kept.key.pem().to_vec()),
        (Some(token().id()), next)
    );
    assert!(!bench.secrets.entries(IDENTITY).contains_key("next.key"));
}

#[tokio::test]
async fn trust_that_comes_while_a_request_is_under_way_leaves_its_key_in_the_secret() {
    let (bench, mut keeper) = Bench::idle(Validity::fresh(), |_, _| {}, Issuer::always).await;
    let key = keeper.tools.next_key(&mut keeper.next).await.expect("kept");
    let trust = Trust {
        epoch: 4,
        ..bench.renewals.trust.clone()
    };
    let (answers, mut answered) = mpsc::channel(1);
    keeper.trust(Question {
        asked: trust.write(),
        answers,
    });
    keeper.save().await;
    assert_eq!(next_answer(&mut answered).await.epoch, 4);
    assert_eq!(bench.secrets.entries(IDENTITY)["next.key"], key.pem().to_vec());
}

#[tokio::test]
async fn hub_whose_signer_never_signs_is_not_asked_again_and_again() {
    let strange = TestCa::new();
    let change = |_: &mut Kept, trust: &mut Trust| {
        trust
            .roots
            .extend(strange.trust(3, "hub.test:8444", "hub.test:8443").roots);
        trust.signer = strange.pin();
    };
    let (mut bench, mut keeper) = Bench::idle(old(), change, Issuer::always).await;
    bench.connect().await;
    keeper.work().await.expect("no other name");
    assert_eq!(bench.requests(), 1);
    assert!(keeper.kept.is_of_an_older_signer());
    assert!(keeper.due.left(Moment::now()) > Duration::from_hours(7));
}
