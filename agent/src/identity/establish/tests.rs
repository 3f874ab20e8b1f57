mod ways;

use std::fs;
use std::path::PathBuf;

use remote_istio::enrolment::TOKEN_KEY;
use remote_istio::process::Readiness;
use remote_istio::wire::v1;
use tempfile::TempDir;
use tonic::Status;

use super::*;
use crate::identity::calls::tests::{Issuer, Script, ScriptedEnrolment, token};
use crate::identity::kept::tests::kept_of;
use crate::identity::store::tests::{IDENTITY, Secrets, TOKEN};
use crate::test_ca::{TestCa, Validity};

/// Fails a test that hangs; far more than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

struct Bench {
    secrets: Arc<Secrets>,
    hub: ScriptedEnrolment,
    readiness: Readiness,
    token_file: PathBuf,
    _folder: TempDir,
}

impl Bench {
    async fn new(script: impl FnOnce(Issuer) -> Script) -> Self {
        Self::with(Secrets::new(), script).await
    }

    async fn with(secrets: Arc<Secrets>, script: impl FnOnce(Issuer) -> Script) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self {
            secrets,
            hub: ScriptedEnrolment::start(TestCa::new(), script).await,
            readiness: Readiness::default(),
            token_file: folder.path().join("token"),
            _folder: folder,
        }
    }

    fn lay_token(&self) {
        fs::write(&self.token_file, token().reveal()).expect("written");
        self.secrets.put(TOKEN, TOKEN_KEY, token().reveal().as_bytes());
    }

    fn establishing(&self) -> Establishing {
        let enroller = Enroller {
            token_file: self.token_file.clone(),
            ..self.hub.enroller()
        };
        let condition = self.readiness.condition("identity");
        Establishing::new(self.secrets.store(), enroller, Arc::default(), condition)
    }

    async fn established(&self) -> Established {
        let stop = CancellationToken::new();
        let running = self.establishing().run(&stop);
        let established = tokio::time::timeout(PATIENCE, running).await.expect("in time");
        established.expect("nobody asked it to stop")
    }

    /// Runs until `/readyz` waits for something that holds these words.
    async fn until_it_waits_for(&self, words: &str) -> String {
        let stop = CancellationToken::new();
        let running = self.establishing().run(&stop);
        let waiting = async {
            loop {
                let unmet = self.readiness.unmet();
                if let Some((_, text)) = unmet.iter().find(|(_, text)| text.contains(words)) {
                    return text.clone();
                }
                tokio::task::yield_now().await;
            }
        };
        let waiting = tokio::time::timeout(PATIENCE, waiting);
        tokio::select! {
            _ = running => panic!("an identity came from nowhere"),
            text = waiting => text.expect("it says so in time"),
        }
    }

    fn kept(&self, validity: Validity) -> Kept {
        let mut kept = kept_of(&self.hub.ca, validity);
        kept.trust = self.hub.ca.trust(3, "hub.test:8444", &self.hub.address.to_string());
        kept
    }

    fn joins(&self) -> Vec<v1::JoinRequest> {
        self.hub.served.joins.lock().clone()
    }
}

#[tokio::test]
async fn join_leaves_an_identity_in_the_secret_and_no_token_anywhere() {
    let bench = Bench::new(Issuer::always).await;
    bench.lay_token();
    let established = bench.established().await;
    assert!(established.saved && established.fresh);
    assert_eq!(established.kept.token.as_deref(), Some(token().id()));
    let (Contents::Kept(kept), None) = bench.secrets.store().read().await.expect("read") else {
        panic!("no identity, or a key too many")
    };
    assert_eq!(kept.certificate, established.kept.certificate);
    assert_eq!(fs::read(&bench.token_file).expect("there"), b"");
    assert_eq!(bench.secrets.entries(TOKEN)[TOKEN_KEY], b"");
    assert_eq!(bench.readiness.unmet(), []);
}

#[tokio::test]
async fn key_is_safe_before_its_request_is_sent_and_the_same_when_the_answer_is_lost() {
    let bench = Bench::new(|issuer| {
        Box::new(move |number, request| match number {
            0 => Err(Status::unavailable("the answer got lost")),
            _ => Ok(issuer.issue(&request.request, "remote/remote-1", Validity::fresh())),
        })
    })
    .await;
    bench.lay_token();
    bench.secrets.fail(500, 2);
    let established = bench.established().await;
    assert!(established.saved);
    let joins = bench.joins();
    let [lost, answered] = joins.as_slice() else {
        panic!("{} joins", joins.len())
    };
    assert_eq!(public_key(&lost.request), public_key(&answered.request));
    assert!(established.kept.key.fits(&established.kept.certificate.chain[0]));
}

fn public_key(request: &[u8]) -> Vec<u8> {
    let request = rcgen::CertificateSigningRequestParams::from_der(&request.into()).expect("a request");
    rcgen::PublicKeyData::subject_public_key_info(&request.public_key)
}

#[tokio::test]
async fn nothing_is_sent_while_the_key_cannot_be_kept() {
    let bench = Bench::new(Issuer::always).await;
    bench.lay_token();
    bench.secrets.fail(507, 10_000);
    let text = bench.until_it_waits_for("no request is sent").await;
    assert!(
        text.contains("remote-istio-agent-identity") && text.contains("507"),
        "{text}"
    );
    assert_eq!(bench.joins().len(), 0);
}

#[tokio::test]
async fn restarted_agent_goes_on_with_the_key_it_had_sent() {
    let bench = Bench::new(Issuer::always).await;
    bench.lay_token();
    let key = PrivateKey::generate().expect("a key");
    bench.secrets.put(IDENTITY, "next.key", &key.pem());
    let established = bench.established().await;
    assert_eq!(established.kept.key.pem(), key.pem());
}

#[tokio::test]
async fn agent_with_a_good_identity_asks_for_none_even_beside_a_token() {
    let bench = Bench::new(Issuer::always).await;
    bench.lay_token();
    bench.secrets.hold(&bench.kept(Validity::fresh()));
    let established = bench.established().await;
    assert!(!established.fresh);
    assert_eq!(bench.joins().len(), 0);
}

#[tokio::test]
async fn ended_certificate_is_recovered_without_a_token() {
    let bench = Bench::new(Issuer::always).await;
    bench.secrets.hold(&bench.kept(Validity::ended()));
    let established = bench.established().await;
    assert!(established.kept.certificate.not_after > SystemTime::now());
    assert_eq!(bench.hub.served.recoveries.lock().len(), 1);
}

#[tokio::test]
async fn recovery_that_is_denied_is_followed_by_a_join_once_a_new_token_lies_ready() {
    let bench = Bench::new(Issuer::always).await;
    bench.secrets.hold(&bench.kept(Validity::ended()));
    *bench.hub.served.refuse_recovery.lock() = Some(Status::permission_denied("certificate revoked"));
    let text = bench.until_it_waits_for("certificate revoked").await;
    assert_eq!((text.as_str(), bench.joins().len()), ("certificate revoked", 0));
    bench.lay_token();
    let established = bench.established().await;
    assert_eq!(established.kept.token.as_deref(), Some(token().id()));
}

#[tokio::test]
async fn what_is_waited_for_is_said_in_words() {
    let bench = Bench::new(Issuer::always).await;
    let text = bench.until_it_waits_for("waiting for a token").await;
    assert!(text.contains("--token-file") && text.contains("is not there"), "{text}");
    fs::write(&bench.token_file, "\n").expect("written");
    bench.until_it_waits_for("it is empty").await;
    let later = Validity {
        from: SystemTime::now() + Duration::from_hours(1),
        until: SystemTime::now() + Duration::from_hours(2),
    };
    bench.secrets.hold(&bench.kept(later));
    bench
        .until_it_waits_for("is not valid yet by this machine's clock")
        .await;
    let other = PrivateKey::generate().expect("a key");
    bench.secrets.put(IDENTITY, "tls.key", &other.pem());
    bench.until_it_waits_for("is not the key of the certificate").await;
}

#[tokio::test]
async fn clock_that_is_far_ahead_does_not_make_an_agent_hammer() {
    let bench = Bench::new(|issuer| {
        Box::new(move |_, request| Ok(issuer.issue(&request.request, "remote/remote-1", Validity::ended())))
    })
    .await;
    bench.lay_token();
    for _ in 0..2 {
        bench.until_it_waits_for("correct the clock").await;
    }
    assert_eq!(bench.joins().len(), 1);
    assert_eq!(bench.hub.served.recoveries.lock().len(), 0);
}

#[tokio::test]
async fn certificate_that_came_while_the_clock_was_far_ahead_is_kept_for_when_it_is_corrected() {
    let bench = Bench::new(|issuer| {
        Box::new(move |_, request| Ok(issuer.issue(&request.request, "remote/remote-1", Validity::ended())))
    })
    .await;
    bench.lay_token();
    bench.until_it_waits_for("correct the clock").await;
    let (Contents::Kept(kept), None) = bench.secrets.store().read().await.expect("read") else {
        panic!("no identity, or a key too many")
    };
    assert_eq!(kept.token.as_deref(), Some(token().id()));
    let before_its_end = kept.certificate.not_after - Duration::from_mins(1);
    let contents = Contents::Kept(kept);
    assert_eq!(step(&contents, before_its_end, None, false), Step::Go);
    assert_eq!(bench.secrets.entries(TOKEN)[TOKEN_KEY], b"");
}

#[tokio::test]
async fn identity_that_another_process_got_meanwhile_is_used() {
    let (secrets, theirs) = (Secrets::new(), kept_of(&TestCa::new(), Validity::fresh()));
    let (seen, held) = (Arc::clone(&secrets), theirs.clone());
    let bench = Bench::with(secrets, |_| {
        Box::new(move |_, _| {
            seen.hold(&held);
            Err(Status::unavailable("the other one was faster"))
        })
    })
    .await;
    bench.lay_token();
    let established = bench.established().await;
    assert_eq!(established.kept.certificate, theirs.certificate);
    assert_eq!(bench.joins().len(), 1);
}

#[tokio::test]
async fn used_token_that_was_not_blanked_is_blanked_at_the_next_start() {
    let bench = Bench::new(Issuer::always).await;
    bench.lay_token();
    let kept = Kept {
        token: Some(token().id().to_owned()),
        ..bench.kept(Validity::fresh())
    };
    bench.secrets.hold(&kept);
    bench.established().await;
    assert_eq!(bench.joins().len(), 0);
    assert_eq!(fs::read(&bench.token_file).expect("there"), b"");
    assert_eq!(bench.secrets.entries(TOKEN)[TOKEN_KEY], b"");
}
