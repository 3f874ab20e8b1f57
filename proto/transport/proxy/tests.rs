use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::super::tests::{start_hub, whoami};
use super::super::{Connector, Way, open};
use super::*;
use crate::tls::test_ca::{LeafParams, TestCa};

const WORD: Duration = Duration::from_secs(5);

/// A proxy that reads the head of one request and then does as told.
struct FakeProxy {
    proxy: HttpProxy,
    tasks: JoinSet<String>,
}

impl FakeProxy {
    /// `answer` decides what the client sees; the head of the request is what [`Self::asked`] returns.
    async fn start<F>(credentials: &str, answer: impl FnOnce(TcpStream, String) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let proxy = HttpProxy::from_url(&format!("http://{credentials}127.0.0.1:{port}")).expect("a proxy");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut head = Vec::new();
            while end_of_head(&head).is_none() {
                head.push(stream.read_u8().await.expect("a request"));
            }
            let head = String::from_utf8(head).expect("text");
            answer(stream, head.clone()).await;
            head
        });
        Self { proxy, tasks }
    }

    /// One that writes this and waits for the client to leave.
    async fn saying(credentials: &str, answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::start(credentials, async move |mut stream: TcpStream, _| {
            stream.write_all(&answer).await.expect("written");
            let _ = stream.read_u8().await;
        })
        .await
    }

    async fn refusal(&self) -> String {
        let address = "hub.test:8444".parse().expect("an address");
        let error = tunnel_within(WORD, &self.proxy, &address).await.expect_err("no tunnel");
        let ConnectError::Proxy { proxy, detail } = error else {
            panic!("{error}");
        };
        assert_eq!(proxy, self.proxy.to_string());
        detail
    }
}

#[tokio::test]
async fn hub_behind_a_proxy_is_reached_and_named_by_the_client_alone() {
    let ca = TestCa::new();
    let hub = start_hub(ca.source(LeafParams::hub())).await;
    let mut fake = FakeProxy::start("", async |mut stream: TcpStream, head: String| {
        let target = head.split(' ').nth(1).expect("a target").to_owned();
        let mut onward = TcpStream::connect(target).await.expect("the hub listens");
        stream
            .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            .await
            .expect("written");
        // Ends with whichever end leaves first; a reset is as good as a close here.
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut onward).await;
    })
    .await;
    let connector = Connector::new(ca.source(LeafParams::remote("remote-1"))).via(Way::Proxy(fake.proxy.clone()));
    let stream = connector.connect(&hub.address).await.expect("a stream");
    assert_eq!(
        stream.peer().address,
        format!("{} (by proxy {})", hub.address, fake.proxy)
    );
    let mut link = open(stream, &hub.address).await.expect("a link");
    assert_eq!(
        whoami(&mut link).await.expect("answered"),
        "spiffe://mesh.test/remote/remote-1"
    );
    drop(link);
    let head = fake.tasks.join_next().await.expect("one task").expect("no panic");
    assert_eq!(head, format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", hub.address));
}

#[tokio::test]
async fn exception_goes_past_the_proxy() {
    let ca = TestCa::new();
    let hub = start_hub(ca.source(LeafParams::hub())).await;
    let way = Way::from_environment(Some("http://127.0.0.1:1"), Some("localhost")).expect("a proxy");
    let connector = Connector::new(ca.source(LeafParams::remote("remote-1"))).via(way);
    connector.connect(&hub.address).await.expect("straight");
}

#[tokio::test]
async fn refusal_repeats_the_proxys_status_line_and_says_what_to_do() {
    let wants = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n";
    assert_eq!(
        FakeProxy::saying("", wants).await.refusal().await,
        "it does not connect to hub.test:8444: HTTP/1.1 407 Proxy Authentication Required; it wants credentials: set \
         HTTPS_PROXY to http://USER:PASSWORD@HOST:PORT"
    );
    assert_eq!(
        FakeProxy::saying("ann:sesame@", wants).await.refusal().await,
        "it does not connect to hub.test:8444: HTTP/1.1 407 Proxy Authentication Required; it does not take the \
         credentials in HTTPS_PROXY"
    );
    assert_eq!(
        FakeProxy::saying("", "HTTP/1.0 503 \x1b[31mGone\r\n\r\n")
            .await
            .refusal()
            .await,
        "it does not connect to hub.test:8444: HTTP/1.0 503 ?[31mGone"
    );
}

#[tokio::test]
async fn what_is_no_proxy_is_refused() {
    for (answer, expected) in [
        (b"SSH-2.0-OpenSSH\r\n\r\n".as_slice(), "it does not answer in HTTP"),
        (b"HTTP/2 200\r\n\r\n", "it does not answer in HTTP"),
        (b"HTTP/1.1 2000\r\n\r\n", "it does not answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", "it sent something behind its answer"),
        (&[b'x'; 9_000], "its answer does not end"),
    ] {
        let detail = FakeProxy::saying("", answer).await.refusal().await;
        assert!(detail.starts_with(expected), "{detail}");
    }
}

#[tokio::test]
async fn head_of_an_answer_may_be_as_long_as_the_limit_and_no_longer() {
    let answer = |length: usize| {
        let start = "HTTP/1.1 200 OK\r\nX: ";
        format!("{start}{}\r\n\r\n", "x".repeat(length - start.len() - 4))
    };
    let longest = FakeProxy::saying("", answer(limits::PROXY_ANSWER_MAX_BYTES)).await;
    let address = "hub.test:8444".parse().expect("an address");
    tunnel_within(WORD, &longest.proxy, &address).await.expect("a tunnel");
    let detail = FakeProxy::saying("", answer(limits::PROXY_ANSWER_MAX_BYTES + 1))
        .await
        .refusal()
        .await;
    assert!(detail.starts_with("its answer does not end"), "{detail}");
}

#[tokio::test]
async fn proxy_that_closes_or_says_nothing_is_given_up() {
    let closing = FakeProxy::start("", async |stream: TcpStream, _| drop(stream)).await;
    let detail = closing.refusal().await;
    assert!(
        detail.contains("closed the connection") || detail.contains("broke"),
        "{detail}"
    );

    let silent = FakeProxy::saying("", "").await;
    let address = "hub.test:8444".parse().expect("an address");
    let error = tunnel_within(Duration::from_millis(50), &silent.proxy, &address)
        .await
        .expect_err("silence");
    assert!(error.to_string().contains("did not say in time"), "{error}");
}

#[tokio::test]
async fn proxy_where_nobody_listens_is_named() {
    let proxy = HttpProxy::from_url("http://ann:sesame@127.0.0.1:1").expect("a proxy");
    let address = "hub.test:8444".parse().expect("an address");
    let error = tunnel(&proxy, &address).await.expect_err("nobody listens").to_string();
    assert!(error.starts_with("proxy 127.0.0.1:1 (HTTPS_PROXY): "), "{error}");
    assert!(!error.contains("sesame"), "{error}");
}
