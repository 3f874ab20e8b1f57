use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use http::{Method, Request, Response};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tower::service_fn;

use super::*;
use crate::identity::kept::tests::{TOKEN_ID, kept};

pub(in crate::identity) const IDENTITY: &str = "remote-istio-agent-identity";
pub(in crate::identity) const TOKEN: &str = "remote-istio-agent-token";

/// Secrets as an API server would keep them, for as far as the store goes: it claims nothing about the real one.
#[derive(Default)]
pub(in crate::identity) struct Secrets {
    held: Mutex<BTreeMap<String, Secret>>,
    /// What the next writes are answered with instead.
    failures: Mutex<VecDeque<u16>>,
    /// Happens before the next write.
    meanwhile: Mutex<Option<(String, String)>>,
    writes: Mutex<u32>,
}

impl Secrets {
    /// With the two Secrets, empty.
    pub(in crate::identity) fn new() -> Arc<Self> {
        let secrets = Arc::new(Self::default());
        for name in [IDENTITY, TOKEN] {
            let mut secret = Secret::default();
            secret.metadata.name = Some(name.to_owned());
            secret.metadata.resource_version = Some("1".to_owned());
            secrets.held.lock().insert(name.to_owned(), secret);
        }
        secrets
    }

    pub(in crate::identity) fn store(self: &Arc<Self>) -> Store {
        let secrets = Arc::clone(self);
        let service = service_fn(move |request: Request<Body>| {
            let secrets = Arc::clone(&secrets);
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.expect("a body in memory");
                let name = parts.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
                let (code, answer) = secrets.answer(&parts.method, &name, &body);
                let answer = Body::from(answer.to_string().into_bytes());
                Ok::<_, Infallible>(Response::builder().status(code).body(answer).expect("a response"))
            }
        });
        Store::new(Client::new(service, "istio-system"), "istio-system", IDENTITY, TOKEN)
    }

    fn answer(&self, method: &Method, name: &str, body: &[u8]) -> (u16, Value) {
        if method == Method::PUT {
            if let Some(code) = self.failures.lock().pop_front() {
                return (code, failure(code));
            }
            if let Some((entry, value)) = self.meanwhile.lock().take() {
                self.put(name, &entry, value.as_bytes());
            }
        }
        let mut held = self.held.lock();
        let Some(secret) = held.get_mut(name) else {
            return (404, failure(404));
        };
        if method == Method::PUT {
            let mut new: Secret = serde_json::from_slice(body).expect("a Secret");
            if new.metadata.resource_version != secret.metadata.resource_version {
                return (409, failure(409));
            }
            new.metadata.resource_version = Some(next(secret));
            *secret = new;
            *self.writes.lock() += 1;
        }
        (200, serde_json::to_value(&*secret).expect("JSON"))
    }

    /// As somebody else would.
    pub(in crate::identity) fn put(&self, name: &str, entry: &str, value: &[u8]) {
        let mut held = self.held.lock();
        let secret = held.get_mut(name).expect("it is there");
        let data = secret.data.get_or_insert_default();
        data.insert(entry.to_owned(), ByteString(value.to_vec()));
        secret.metadata.resource_version = Some(next(secret));
    }

    pub(in crate::identity) fn hold(&self, kept: &Kept) {
        let mut all = Entries::new();
        kept.write(None, &mut all);
        for (entry, value) in &all {
            self.put(IDENTITY, entry, value);
        }
    }

    pub(in crate::identity) fn entries(&self, name: &str) -> Entries {
        entries(&self.held.lock()[name])
    }

    /// The next writes fail like this.
    pub(in crate::identity) fn fail(&self, code: u16, times: usize) {
        self.failures.lock().extend(vec![code; times]);
    }

    pub(in crate::identity) fn failing(&self) -> bool {
        !self.failures.lock().is_empty()
    }

    fn remove(&self, name: &str) {
        self.held.lock().remove(name);
    }
}

fn next(secret: &Secret) -> String {
    let version = secret.metadata.resource_version.as_deref().unwrap_or("0");
    (version.parse::<u64>().expect("a number") + 1).to_string()
}

fn failure(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": format!("code {code}"), "code": code})
}

#[tokio::test]
async fn identity_is_kept_and_read_back_and_the_rest_of_the_secret_stays() {
    let (secrets, kept) = (Secrets::new(), kept());
    let store = secrets.store();
    assert!(matches!(store.read().await, Ok((Contents::Nothing, None))));
    secrets.put(IDENTITY, "of.another", b"stays");
    store.keep(&kept, None).await.expect("kept");
    let (Contents::Kept(read), None) = store.read().await.expect("read") else {
        panic!("no identity")
    };
    assert_eq!(read.certificate, kept.certificate);
    assert_eq!(secrets.entries(IDENTITY)["of.another"], b"stays");
    store.keep(&kept, None).await.expect("kept");
    assert_eq!(*secrets.writes.lock(), 1, "what stands there is not written again");
}

#[tokio::test]
async fn write_that_crosses_anothers_is_done_again_on_what_the_other_wrote() {
    let (secrets, kept) = (Secrets::new(), kept());
    *secrets.meanwhile.lock() = Some(("of.another".to_owned(), "stays".to_owned()));
    secrets.store().keep(&kept, None).await.expect("kept");
    let entries = secrets.entries(IDENTITY);
    assert_eq!(entries["of.another"], b"stays");
    assert!(entries.contains_key("tls.key"));
}

#[tokio::test]
async fn next_key_that_another_process_kept_first_is_taken_and_not_replaced() {
    let secrets = Secrets::new();
    let [theirs, ours] = [(); 2].map(|()| PrivateKey::generate().expect("a key"));
    let pem = theirs.pem().to_vec();
    *secrets.meanwhile.lock() = Some((NEXT_KEY.to_owned(), String::from_utf8(pem.clone()).expect("PEM")));
    let taken = secrets.store().keep_next(ours).await.expect("kept");
    assert_eq!(taken.pem().to_vec(), pem);
    assert_eq!(secrets.entries(IDENTITY)[NEXT_KEY], pem);
}

#[tokio::test]
async fn secret_that_cannot_be_used_is_told_with_what_to_do() {
    let (secrets, kept) = (Secrets::new(), kept());
    for (code, words) in [(403, "deploy/roles/agent.yaml"), (500, "code 500"), (507, "code 507")] {
        secrets.fail(code, 1);
        let error = secrets
            .store()
            .keep(&kept, None)
            .await
            .expect_err("refused")
            .to_string();
        assert!(error.contains("istio-system/remote-istio-agent-identity"), "{error}");
        assert!(error.contains(words), "{error}");
    }
    secrets.remove(IDENTITY);
    let error = secrets.store().read().await.expect_err("missing");
    assert!(matches!(error, StoreError::Missing(_)) && error.to_string().contains("deploy/roles/agent.yaml"));
}

#[tokio::test]
async fn only_the_used_token_is_blanked_and_a_missing_secret_is_no_error() {
    let secrets = Secrets::new();
    let (used, other) = (Token::new([1; 5], [1; 32]), Token::new([2; 5], [2; 32]));
    assert_ne!(used.id(), TOKEN_ID);
    secrets.put(TOKEN, TOKEN_KEY, other.reveal().as_bytes());
    secrets.store().blank_token(&used).await.expect("nothing to do");
    assert_eq!(secrets.entries(TOKEN)[TOKEN_KEY], other.reveal().as_bytes());
    secrets.put(TOKEN, TOKEN_KEY, format!("{}\n", used.reveal()).as_bytes());
    secrets.store().blank_token(&used).await.expect("blanked");
    assert_eq!(secrets.entries(TOKEN)[TOKEN_KEY], b"");
    secrets.remove(TOKEN);
    secrets.store().blank_token(&used).await.expect("nothing to do");
}

#[tokio::test]
async fn cleared_secret_holds_no_key_and_keeps_what_is_somebody_elses() {
    let secrets = Secrets::new();
    secrets.hold(&kept());
    secrets.put(IDENTITY, NEXT_KEY, b"next");
    secrets.put(IDENTITY, "note", b"theirs");
    assert_eq!(secrets.store().clear().await, Ok(true));
    let left = secrets.entries(IDENTITY);
    assert_eq!(left, Entries::from([("note".to_owned(), b"theirs".to_vec())]));
    assert_eq!(secrets.store().clear().await, Ok(false));
}
