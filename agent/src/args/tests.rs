use remote_istio::tls::CertificateFiles;

use super::*;

const GOOD: [&str; 8] = [
    "--hub",
    "hub:8444",
    "--certificate",
    "c",
    "--key",
    "k",
    "--trust-bundle",
    "t",
];

/// The configuration of an agent that is to run.
fn parse<T: Into<OsString> + Clone>(words: impl IntoIterator<Item = T>) -> Result<Config, Stopped> {
    match super::parse(words)? {
        Task::Run(config) => Ok(*config),
        other => panic!("{other:?}"),
    }
}

fn with(more: &[&str]) -> Result<Config, Stopped> {
    parse(["agent"].iter().chain(&GOOD).chain(more))
}

fn without(flag: &str) -> Result<Config, Stopped> {
    let kept = GOOD.chunks(2).filter(|pair| pair[0] != flag).flatten();
    parse(["agent"].iter().chain(kept))
}

fn good() -> Config {
    Config {
        hubs: vec!["hub:8444".parse().expect("an address")],
        way: Way::Direct,
        trust_domain: None,
        identity: Source::Files(CertificateFiles {
            certificate: "c".into(),
            key: "k".into(),
            trust_bundle: "t".into(),
        }),
        namespace: "istio-system".to_owned(),
        service_namespaces: BTreeSet::from(["istio-system".to_owned()]),
        policy: None,
        endpoints_objects: true,
        metrics_address: "[::]:8080".parse().expect("an address"),
        kubeconfig: None,
        log_format: LogFormat::Text,
        log_level: "info".to_owned(),
    }
}

#[test]
fn defaults_fill_what_is_not_given_with_and_without_the_subcommand() {
    assert_eq!(with(&[]).expect("good flags"), good());
    let spelled = ["agent", "run"].iter().chain(&GOOD);
    assert_eq!(parse(spelled).expect("good flags"), good());
}

#[test]
fn given_flags_are_taken() {
    let more = [
        "--hub",
        "a:1,b:2",
        "--hub",
        "a:1",
        "--namespace",
        "mesh",
        "--service-namespaces",
        "one,two",
        "--endpoints-objects",
        "false",
        "--metrics-address",
        "127.0.0.1:0",
        "--kubeconfig",
        "f",
        "--log-format",
        "json",
        "--log-level",
        "debug",
        "--trust-domain",
        "mesh.test",
    ];
    let expected = Config {
        hubs: ["hub:8444", "a:1", "b:2"]
            .map(|text| text.parse().expect("an address"))
            .to_vec(),
        trust_domain: Some("mesh.test".to_owned()),
        namespace: "mesh".to_owned(),
        service_namespaces: BTreeSet::from(["one".to_owned(), "two".to_owned()]),
        endpoints_objects: false,
        metrics_address: "127.0.0.1:0".parse().expect("an address"),
        kubeconfig: Some("f".into()),
        log_format: LogFormat::Json,
        log_level: "debug".to_owned(),
        ..good()
    };
    assert_eq!(with(&more).expect("good flags"), expected);
}

#[test]
fn service_namespaces_follow_the_own_namespace() {
    let config = with(&["--namespace", "mesh"]).expect("good flags");
    assert_eq!(config.service_namespaces, BTreeSet::from(["mesh".to_owned()]));
}

#[test]
fn wrong_flag_is_named_and_ends_with_the_code_for_configuration() {
    for (flag, value) in [
        ("--hub", "https://hub:8444"),
        ("--hub", "hub"),
        ("--trust-domain", "no domain"),
        ("--namespace", "Upper"),
        ("--service-namespaces", "good,not_good"),
        ("--service-namespaces", "kube-system"),
        ("--endpoints-objects", "perhaps"),
        ("--metrics-address", "8080"),
        ("--log-format", "xml"),
        ("--unheard-of", "x"),
    ] {
        let stopped = with(&[flag, value]).expect_err(flag);
        assert!(stopped.to_string().contains(flag), "{flag} {value}: {stopped}");
        assert_eq!(stopped.exit_code(), EXIT_CONFIGURATION, "{flag} {value}");
    }
}

#[test]
fn missing_flag_is_named_and_ends_with_the_code_for_configuration() {
    for flag in ["--hub", "--certificate", "--key", "--trust-bundle"] {
        let stopped = without(flag).expect_err(flag);
        assert!(stopped.to_string().contains(flag), "{flag}: {stopped}");
        assert_eq!(stopped.exit_code(), EXIT_CONFIGURATION, "{flag}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for flag in ["--help", "--version"] {
        assert_eq!(parse(["agent", flag]).expect_err("a text").exit_code(), 0);
    }
}

const ENROLLED: [&str; 6] = [
    "--enrolment",
    "hub:8443",
    "--pin",
    "sha256:00000000000000000000000000000000000000000000000000000000000000ff",
    "--token-file",
    "/t/token",
];

fn enrolled(more: &[&str]) -> Result<Config, Stopped> {
    parse(["agent"].iter().chain(&ENROLLED).chain(more))
}

#[test]
fn token_takes_the_place_of_files_and_of_the_hub_address() {
    let expected = Config {
        hubs: vec![],
        identity: Source::Enrolled(Enrolment {
            addresses: vec!["hub:8443".parse().expect("an address")],
            pins: vec![ENROLLED[3].parse().expect("a pin")],
            token_file: "/t/token".into(),
            token_secret: "remote-istio-agent-token".to_owned(),
            identity_secret: "remote-istio-agent-identity".to_owned(),
        }),
        ..good()
    };
    assert_eq!(enrolled(&[]).expect("good flags"), expected);
}

#[test]
fn files_and_token_exclude_each_other_and_both_are_named() {
    for (flag, value) in [("--certificate", "c"), ("--key", "k"), ("--trust-bundle", "t")] {
        let text = enrolled(&[flag, value]).expect_err(flag).to_string();
        assert!(text.contains(&format!("{flag} and --enrolment")), "{text}");
    }
    let text = with(&["--token-secret", "s"]).expect_err("mixed").to_string();
    assert!(text.contains("--certificate and --token-secret"), "{text}");
}

#[test]
fn enrolment_that_is_not_whole_or_wrong_names_its_flag() {
    for flag in ["--enrolment", "--pin", "--token-file"] {
        let kept = ENROLLED.chunks(2).filter(|pair| pair[0] != flag).flatten();
        let text = parse(["agent"].iter().chain(kept)).expect_err(flag).to_string();
        assert!(text.contains(&format!("{flag} ")), "{text}");
    }
    for (flag, value) in [
        ("--enrolment", "hub"),
        ("--pin", "sha256:ff"),
        ("--token-secret", "No_Name"),
        ("--identity-secret", "No_Name"),
    ] {
        let text = enrolled(&[flag, value]).expect_err(flag).to_string();
        assert!(text.contains(flag), "{text}");
    }
}

#[test]
fn proxy_is_taken_from_either_spelling_of_the_environment() {
    let proxied = |pairs: &[(&str, &str)]| {
        let pairs: Vec<(String, String)> = pairs
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        way(move |name| {
            pairs
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.clone())
        })
    };
    let hub: HubAddress = "hub:8444".parse().expect("an address");
    let used = |pairs: &[(&str, &str)]| proxied(pairs).expect("good").proxy_for(&hub).map(ToString::to_string);
    assert_eq!(used(&[]), None);
    assert_eq!(used(&[("HTTPS_PROXY", "http://upper:1")]).as_deref(), Some("upper:1"));
    let both = [("HTTPS_PROXY", "http://upper:1"), ("https_proxy", "http://lower:2")];
    assert_eq!(used(&both).as_deref(), Some("lower:2"));
    assert_eq!(used(&[("https_proxy", "http://lower:2"), ("NO_PROXY", "hub")]), None);
    let error = proxied(&[("https_proxy", "https://p:1")]).expect_err("TLS to the proxy");
    assert!(error.contains("HTTPS_PROXY"), "{error}");
}

#[test]
fn what_citadel_minted_is_only_removed_by_a_person_who_says_so() {
    let asked = |words: &[&str]| match super::parse(["agent", "minted"].iter().chain(words)) {
        Ok(Task::Minted(minted)) => minted,
        other => panic!("{other:?}"),
    };
    let minted = |action| Minted {
        action,
        kubeconfig: None,
    };
    assert_eq!(asked(&["list"]), minted(MintedAction::List));
    assert_eq!(asked(&["remove"]), minted(MintedAction::Remove { yes: false }));
    assert_eq!(asked(&["remove", "--yes"]), minted(MintedAction::Remove { yes: true }));
    let elsewhere = asked(&["list", "--kubeconfig", "k"]);
    assert_eq!(elsewhere.kubeconfig, Some("k".into()));
    assert!(super::parse(["agent", "minted"]).is_err());
}

#[test]
fn leaving_needs_no_hub_and_names_what_is_wrong() {
    let leave = |more: &[&str]| match super::parse(["agent", "leave"].iter().chain(more))? {
        Task::Leave(leave) => Ok(*leave),
        other => panic!("{other:?}"),
    };
    let found = leave(&["--namespace", "mesh"]).expect("good flags");
    assert_eq!(found.service_namespaces, BTreeSet::from(["mesh".to_owned()]));
    assert_eq!(
        (
            found.identity_secret.as_str(),
            found.keep_identity,
            found.timeout.as_secs()
        ),
        ("remote-istio-agent-identity", false, 120)
    );
    assert!(leave(&["--keep-identity"]).expect("good flags").keep_identity);
    for (flag, value) in [
        ("--namespace", "Not_A_Name"),
        ("--remote", "Not_A_Name"),
        ("--trust-domain", "a b"),
        ("--identity-secret", "a b"),
        ("--timeout", "soon"),
    ] {
        let error: Stopped = leave(&[flag, value]).expect_err("refused");
        assert_eq!(error.exit_code(), EXIT_CONFIGURATION);
        assert!(error.to_string().contains(flag), "{error}");
    }
}

#[test]
fn check_takes_the_flags_of_the_agent_and_finds_it_in_its_namespace() {
    let words = ["agent", "check", "--namespace", "mesh"].iter().chain(&GOOD);
    let Ok(Task::Check(check)) = super::parse(words) else {
        panic!("good flags")
    };
    assert_eq!(check.agent, "http://remote-istio-agent.mesh.svc:8080");
    assert_eq!(check.config.namespace, "mesh");
    let words = ["agent", "check", "--agent", "localhost:8080"].iter().chain(&GOOD);
    assert!(super::parse(words).expect_err("no URL").to_string().contains("--agent"));
}
