use super::*;

fn proxy(url: &str) -> HttpProxy {
    HttpProxy::from_url(url).expect(url)
}

fn address(text: &str) -> HubAddress {
    text.parse().expect(text)
}

#[test]
fn proxy_is_read_from_its_url() {
    for (url, shown) in [
        ("http://proxy.test:3128", "proxy.test:3128"),
        ("HTTP://proxy.test:3128/", "proxy.test:3128"),
        ("proxy.test:3128", "proxy.test:3128"),
        ("http://proxy.test", "proxy.test:80"),
        ("http://10.0.0.1:8080", "10.0.0.1:8080"),
        ("http://[2001:db8::1]:8080", "[2001:db8::1]:8080"),
        ("http://ann:pass@proxy.test:3128", "proxy.test:3128"),
    ] {
        assert_eq!(proxy(url).to_string(), shown);
    }
}

#[test]
fn text_that_is_no_proxy_is_refused_with_its_reason() {
    let reason = |url: &str| HttpProxy::from_url(url).expect_err(url);
    assert_eq!(reason("https://proxy.test:3128"), ProxyError::Https);
    assert_eq!(reason("socks5://proxy.test:1080"), ProxyError::Scheme);
    for url in [
        "http://",
        "http://:3128",
        "http://proxy.test:0",
        "http://proxy.test:x",
        "http://a b:1",
        "http://p:1/x",
    ] {
        assert_eq!(reason(url), ProxyError::Shape, "{url}");
    }
    for url in [
        "http://ann:50%@proxy.test:1",
        "http://ann:%zz@proxy.test:1",
        "http://a%3Ab:c@proxy.test:1",
    ] {
        assert_eq!(reason(url), ProxyError::Credentials, "{url}");
    }
}

#[test]
fn request_for_a_tunnel_carries_credentials_and_a_bracketed_address() {
    assert_eq!(
        proxy("http://proxy.test").request(&address("hub.test:8444")),
        "CONNECT hub.test:8444 HTTP/1.1\r\nHost: hub.test:8444\r\n\r\n"
    );
    // RFC 7617's example, with a character that must be escaped in a URL.
    assert_eq!(
        proxy("http://Aladdin:open%20sesame@proxy.test").request(&address("[2001:db8::1]:8444")),
        "CONNECT [2001:db8::1]:8444 HTTP/1.1\r\nHost: [2001:db8::1]:8444\r\n\
         Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n"
    );
}

#[test]
fn credentials_are_never_shown() {
    let way = Way::Proxy(proxy("http://ann:sesame@proxy.test:3128"));
    let shown = format!("{way:?} {}", proxy("http://ann:sesame@proxy.test:3128"));
    assert!(
        !shown.contains("sesame") && !shown.contains("ann") && !shown.contains("Basic"),
        "{shown}"
    );
}

#[test]
fn blank_environment_means_direct() {
    for unset in [None, Some(""), Some("  ")] {
        assert_eq!(Way::from_environment(unset, Some("*")), Ok(Way::Direct));
    }
    assert_eq!(
        Way::from_environment(Some("https://p:1"), None).expect_err("not supported"),
        ProxyError::Https
    );
}

#[test]
fn no_proxy_excepts_hosts_domains_and_ranges() {
    let goes_direct = |no_proxy: &str, hub: &str| {
        let way = Way::from_environment(Some("http://proxy.test:3128"), Some(no_proxy)).expect("a proxy");
        way.proxy_for(&address(hub)).is_none()
    };
    for (no_proxy, hub, direct) in [
        ("", "hub.test:8444", false),
        ("*", "hub.test:8444", true),
        ("a.test, *", "hub.test:8444", true),
        ("hub.test", "hub.test:8444", true),
        ("HUB.test", "Hub.Test:8444", true),
        ("hub.test", "a.hub.test:8444", true),
        ("hub.test", "ahub.test:8444", false),
        ("hub.test", "hub.test.evil:8444", false),
        (".hub.test", "hub.test:8444", false),
        (".hub.test", "a.hub.test:8444", true),
        ("*.hub.test", "a.b.hub.test:8444", true),
        ("*.hub.test", "hub.test:8444", false),
        ("hub.test:8444", "hub.test:8444", true),
        ("hub.test:8443", "hub.test:8444", false),
        ("10.0.0.1", "10.0.0.1:8444", true),
        ("10.0.0.1:8443", "10.0.0.1:8444", false),
        ("10.0.0.1", "10.0.0.11:8444", false),
        ("10.0.0.0/8", "10.200.3.4:8444", true),
        ("10.0.0.0/8", "11.0.0.1:8444", false),
        ("10.0.0.0/8", "hub.test:8444", false),
        ("10.1.2.0/23", "10.1.3.9:8444", true),
        ("10.1.2.0/23", "10.1.4.1:8444", false),
        ("0.0.0.0/0", "10.1.4.1:8444", true),
        ("10.0.0.0/33", "10.0.0.1:8444", false),
        ("2001:db8::/32", "[2001:db8:1::1]:8444", true),
        ("2001:db8::/32", "[2001:db9::1]:8444", false),
        ("::/0", "[2001:db9::1]:8444", true),
        ("::/0", "10.0.0.1:8444", false),
        ("2001:db8::1", "[2001:db8::1]:8444", true),
        ("[2001:db8::1]:8444", "[2001:db8::1]:8444", true),
        (",, ,nonsense/x,/", "hub.test:8444", false),
    ] {
        assert_eq!(goes_direct(no_proxy, hub), direct, "{no_proxy:?} {hub}");
    }
}
