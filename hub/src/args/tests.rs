use std::collections::BTreeSet;
use std::path::PathBuf;

use remote_istio::identity::RemoteName;
use remote_istio::process::LogFormat;
use remote_istio::tls::CertificateFiles;
use remote_istio::transport::HubAddress;

use super::*;
use crate::crd::Approval;

const FILES: [&str; 8] = [
    "--link-ca",
    "files",
    "--certificate",
    "c",
    "--key",
    "k",
    "--trust-bundle",
    "b",
];

fn parsed(arguments: &[&str]) -> Result<Command, ArgsError> {
    let program = std::iter::once("remote-istio-hub");
    parse(program.chain(arguments.iter().copied()).map(OsString::from))
}

fn run(arguments: &[&str]) -> Config {
    match parsed(arguments) {
        Ok(Command::Run(config)) => *config,
        other => panic!("{other:?}"),
    }
}

fn operation(arguments: &[&str]) -> Operation {
    match parsed(arguments) {
        Ok(Command::Operate(operation)) => *operation,
        other => panic!("{other:?}"),
    }
}

fn order(arguments: &[&str]) -> Order {
    operation(arguments).order
}

fn address(text: &str) -> HubAddress {
    text.parse().expect("an address")
}

fn remote(name: &str) -> RemoteName {
    RemoteName::new(name).expect("a DNS label")
}

#[test]
fn run_is_what_happens_without_a_command_and_makes_a_ca() {
    let expected = Config {
        namespace: "istio-system".to_owned(),
        service_namespaces: BTreeSet::from(["istio-system".to_owned()]),
        trust_domain: "remote-istio.local".to_owned(),
        link: LinkCa::Made {
            secret: "remote-istio-link-ca".to_owned(),
        },
        enrolment_address: "[::]:8443".parse().expect("an address"),
        public_sync: vec![address("remote-istio-hub.istio-system.svc:8444")],
        public_enrolment: vec![address("remote-istio-hub.istio-system.svc:8443")],
        public_service: None,
        certificate_lifetime: Duration::from_hours(24),
        recovery_period: Duration::from_hours(90 * 24),
        mesh_signing: None,
        sync_address: "[::]:8444".parse().expect("an address"),
        metrics_address: "[::]:8080".parse().expect("an address"),
        deletion_limit: 5,
        replica: "a".to_owned(),
        kubeconfig: None,
        log_format: LogFormat::Text,
        log_level: "info".to_owned(),
    };
    assert_eq!(run(&["--replica", "a"]), expected);
    assert_eq!(run(&["run", "--replica", "a"]), expected);
}

#[test]
fn definitions_are_asked_for_all_together_or_one_by_one() {
    assert!(matches!(parsed(&["crd"]), Ok(Command::Crd(None))));
    for (file, _) in crate::crd::crd_files() {
        let name = file.strip_suffix(".yaml").expect("a YAML file");
        assert!(matches!(parsed(&["crd", name]), Ok(Command::Crd(Some(taken))) if taken == name));
    }
    assert!(parsed(&["crd", "pods"]).is_err());
}

#[test]
fn ca_of_the_user_stands_in_the_secret_that_is_named() {
    let brought = |secret: &str| LinkCa::Brought {
        secret: secret.to_owned(),
    };
    assert_eq!(run(&["--link-ca", "secret"]).link, brought("remote-istio-link-ca"));
    let named = run(&["--link-ca", "secret", "--link-ca-secret", "my-ca"]);
    assert_eq!(named.link, brought("my-ca"));
    let made = LinkCa::Made {
        secret: "my-ca".to_owned(),
    };
    assert_eq!(run(&["--link-ca-secret", "my-ca"]).link, made);
}

#[test]
fn files_are_taken_where_they_are_asked_for() {
    let files = LinkCa::Files(CertificateFiles {
        certificate: "c".into(),
        key: "k".into(),
        trust_bundle: "b".into(),
    });
    assert_eq!(run(&FILES).link, files);
}

#[test]
fn missing_file_is_named() {
    for missing in ["--certificate", "--key", "--trust-bundle"] {
        let pairs = FILES.chunks(2).filter(|pair| pair[0] != missing);
        let left: Vec<&str> = pairs.flatten().copied().collect();
        let error = parsed(&left).expect_err(missing).to_string();
        assert!(
            error.starts_with(&format!("--link-ca files needs {missing}")),
            "{error}"
        );
    }
}

#[test]
fn flag_of_another_kind_of_ca_is_an_error_that_says_which() {
    for flag in ["--certificate", "--key", "--trust-bundle"] {
        for kind in ["made", "secret"] {
            let error = parsed(&["--link-ca", kind, flag, "x"]).expect_err(flag).to_string();
            let expected = format!("{flag} has no meaning with --link-ca {kind}: leave it out, or add --link-ca files");
            assert_eq!(error, expected);
        }
    }
    for (flag, value) in [
        ("--link-ca-secret", "x"),
        ("--enrolment-address", "[::]:8443"),
        ("--public-sync", "hub.test:8444"),
        ("--public-enrolment", "hub.test:8443"),
        ("--public-service", "remote-istio-hub"),
        ("--certificate-lifetime", "24h"),
        ("--recovery-period", "90d"),
    ] {
        let error = parsed(&[&FILES[..], &[flag, value]].concat()).expect_err(flag);
        let expected =
            format!("{flag} has no meaning with --link-ca files: leave it out, or add --link-ca made or secret");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn public_addresses_are_lists_and_default_to_the_service() {
    let config = run(&[
        "--namespace",
        "mesh",
        "--public-sync",
        "a.test:1,[2001:db8::1]:2",
        "--public-sync",
        "b.test:3",
    ]);
    assert_eq!(
        config.public_sync,
        [address("a.test:1"), address("[2001:db8::1]:2"), address("b.test:3")]
    );
    assert_eq!(config.public_enrolment, [address("remote-istio-hub.mesh.svc:8443")]);
    let many = vec!["a.test:1"; 17].join(",");
    let error = parsed(&["--public-sync", &many]).expect_err("too many").to_string();
    assert!(error.contains("--public-sync has 17 addresses"), "{error}");
}

#[test]
fn public_service_stands_instead_of_both_addresses() {
    assert_eq!(run(&["--public-service", "hub"]).public_service.as_deref(), Some("hub"));
    assert_eq!(run(&["--public-service", ""]).public_service, None);
    for flag in ["--public-sync", "--public-enrolment"] {
        let error = parsed(&["--public-service", "hub", flag, "a.test:1"])
            .expect_err(flag)
            .to_string();
        assert!(
            error.starts_with(&format!("{flag} has no meaning with --public-service")),
            "{error}"
        );
    }
    let error = parsed(&["--public-service", "a.b"]).expect_err("no label").to_string();
    assert!(
        error.contains("--public-service \"a.b\" is not the name of a Service"),
        "{error}"
    );
}

#[test]
fn deletion_limit_is_at_least_one() {
    assert_eq!(run(&["--deletion-limit", "10000"]).deletion_limit, 10_000);
    for wrong in ["0", "10001", "-1", "many"] {
        assert!(parsed(&["--deletion-limit", wrong]).is_err(), "{wrong}");
    }
}

#[test]
fn check_takes_seconds() {
    let limit = Duration::from_secs(10);
    assert_eq!(order(&["check"]), Order::Check { limit });
    let limit = Duration::from_secs(2);
    assert_eq!(order(&["check", "--timeout", "2s"]), Order::Check { limit });
    assert!(parsed(&["check", "--timeout", "31s"]).is_err());
}

#[test]
fn times_are_written_with_units_and_have_their_range() {
    let config = run(&["--certificate-lifetime", "3s", "--recovery-period", "2m 1s"]);
    assert_eq!(config.certificate_lifetime, Duration::from_secs(3));
    assert_eq!(config.recovery_period, Duration::from_secs(121));
    assert_eq!(
        run(&["--certificate-lifetime", "90d"]).certificate_lifetime,
        Duration::from_hours(90 * 24)
    );
    for (flag, value) in [
        ("--certificate-lifetime", "2s"),
        ("--certificate-lifetime", "91d"),
        ("--recovery-period", "0s"),
        ("--recovery-period", "3651d"),
        ("--recovery-period", "90"),
    ] {
        let error = parsed(&[flag, value]).expect_err(value).to_string();
        assert!(error.contains(flag), "{error}");
    }
}

#[test]
fn replica_is_named_after_the_host() {
    assert!(!run(&[]).replica.is_empty());
}

#[test]
fn service_namespaces_are_a_list_and_default_to_the_namespace() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(run(&["--namespace", "mesh"]).service_namespaces, names(&["mesh"]));
    let listed = run(&["--service-namespaces", "a, b", "--service-namespaces", "c"]);
    assert_eq!(listed.service_namespaces, names(&["a", "b", "c"]));
}

#[test]
fn each_wrong_flag_names_itself() {
    for (flag, value) in [
        ("--namespace", "Mesh"),
        ("--service-namespaces", "a,b/c"),
        ("--trust-domain", "a_b"),
        ("--sync-address", "8444"),
        ("--enrolment-address", "8443"),
        ("--public-sync", "hub.test"),
        ("--public-enrolment", "https://hub.test:8443"),
        ("--link-ca", "theirs"),
        ("--link-ca-secret", "My_CA"),
        ("--metrics-address", "localhost"),
        ("--replica", ""),
        ("--log-format", "xml"),
        ("--no-such-flag", "x"),
    ] {
        let error = parsed(&[flag, value]).expect_err(flag);
        assert!(error.to_string().contains(flag), "{error}");
    }
}

#[test]
fn word_that_is_no_command_is_not_taken_for_a_flag_of_run() {
    let error = parsed(&["tokens"]).expect_err("no command").to_string();
    assert!(error.contains("unrecognized subcommand 'tokens'"), "{error}");
}

#[test]
fn operation_goes_where_namespace_and_kubeconfig_say() {
    let given = operation(&["identity", "list", "--namespace", "mesh", "--kubeconfig", "k"]);
    let expected = Operation {
        namespace: "mesh".to_owned(),
        kubeconfig: Some(PathBuf::from("k")),
        order: Order::IdentityList(Output::Text),
    };
    assert_eq!(given, expected);
    assert_eq!(operation(&["identity", "list"]).namespace, "istio-system");
    assert!(matches!(
        parsed(&["identity", "list", "--namespace", "Mesh"]),
        Err(ArgsError::Namespace { .. })
    ));
}

#[test]
fn token_has_defaults_and_every_one_of_them_can_be_changed() {
    let plain = TokenRequest {
        remote: remote("remote-1"),
        lifetime: Duration::from_hours(1),
        approval: Approval::Automatic,
        cluster_uid: None,
        chart: "deploy/charts/remote-istio-agent".to_owned(),
        output: TokenOutput::Text,
    };
    assert_eq!(order(&["token", "create", "remote-1"]), Order::TokenCreate(plain));
    let changed = TokenRequest {
        remote: remote("remote-1"),
        lifetime: Duration::from_mins(90),
        approval: Approval::Manual,
        cluster_uid: Some("uid".to_owned()),
        chart: "agent.tgz".to_owned(),
        output: TokenOutput::Token,
    };
    let words = "token create remote-1 --ttl 90m --approval manual --cluster-uid uid --chart agent.tgz -o token";
    let words: Vec<&str> = words.split(' ').collect();
    assert_eq!(order(&words), Order::TokenCreate(changed));
}

#[test]
fn each_command_is_its_order() {
    let secret = || "remote-istio-link-ca".to_owned();
    for (words, expected) in [
        ("token list -o json", Order::TokenList(Output::Json)),
        ("token revoke abcdefgh", Order::TokenRevoke("abcdefgh".to_owned())),
        ("join list", Order::JoinList(Output::Text)),
        ("join approve remote-1", Order::JoinApprove("remote-1".to_owned())),
        ("join deny remote-1", Order::JoinDeny("remote-1".to_owned())),
        (
            "revoke remote-1 --reason stolen --unknown",
            Order::Revoke {
                remote: remote("remote-1"),
                reason: "stolen".to_owned(),
                unknown: true,
            },
        ),
        ("release remote-1", Order::Release(remote("remote-1"))),
        ("identity list --output json", Order::IdentityList(Output::Json)),
        (
            "ca show -o json --link-ca-secret my-ca",
            Order::CaShow {
                secret: "my-ca".to_owned(),
                output: Output::Json,
            },
        ),
        ("ca begin", Order::CaBegin(secret())),
        ("ca switch", Order::CaSwitch(secret())),
        (
            "ca drop --forget a --forget b,c",
            Order::CaDrop {
                secret: secret(),
                forget: vec![remote("a"), remote("b"), remote("c")],
            },
        ),
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        assert_eq!(order(&words), expected, "{words:?}");
    }
}

#[test]
fn orders_that_cannot_be_meant_are_refused() {
    for words in [
        "token",
        "token create",
        "token create Remote",
        "token create a --ttl 0s",
        "token create a --ttl 31d",
        "token create a --approval maybe",
        "token create a -o yaml",
        "token revoke a.b",
        "join approve",
        "revoke A",
        "release a/b",
        "ca drop --forget A",
        "ca show --link-ca-secret A_B",
    ] {
        let split: Vec<&str> = words.split(' ').collect();
        assert!(parsed(&split).is_err(), "{words}");
    }
    let uid = "u".repeat(254);
    assert!(parsed(&["token", "create", "a", "--cluster-uid", &uid]).is_err());
    let reason = "r".repeat(1025);
    assert!(parsed(&["revoke", "a", "--reason", &reason]).is_err());
}

#[test]
fn whole_token_means_its_id_and_no_error_repeats_a_secret() {
    let token = remote_istio::enrolment::Token::new([1; 5], [2; 32]).reveal();
    let (id, secret) = token.split_once('.').expect("two halves");
    assert_eq!(order(&["token", "revoke", &token]), Order::TokenRevoke(id.to_owned()));
    let cut = &token[..token.len() - 1];
    let error = parsed(&["token", "revoke", cut]).expect_err("cut").to_string();
    assert!(!error.contains(&secret[..20]), "{error}");
}

#[test]
fn page_of_flags_has_the_help_of_every_command() {
    let page = include_str!("../../../docs/flags.md");
    for words in [
        "run",
        "crd",
        "token create",
        "token list",
        "token revoke",
        "join list",
        "join approve",
        "join deny",
        "revoke",
        "release",
        "check",
        "identity list",
        "ca show",
        "ca begin",
        "ca switch",
        "ca drop",
    ] {
        let asked: Vec<&str> = words.split(' ').chain(["--help"]).collect();
        let help = parsed(&asked).expect_err("a text").to_string();
        assert!(help.contains("Usage: "), "{help}");
        assert!(
            page.contains(help.trim()),
            "docs/flags.md is not current, run `make docs`:\n{help}"
        );
    }
}

#[test]
fn signing_for_the_mesh_is_off_unless_granted_and_its_flags_have_no_meaning_without() {
    assert_eq!(run(&["--replica", "a"]).mesh_signing, None);
    let granted = run(&["--replica", "a", "--sign-mesh-ca"]).mesh_signing;
    let expected = MeshSigning {
        secret: None,
        lifetime: Duration::from_hours(365 * 24),
    };
    assert_eq!(granted, Some(expected));
    let given = [
        "--sign-mesh-ca",
        "--mesh-ca-secret",
        "ours",
        "--mesh-certificate-lifetime",
        "1h",
    ];
    let expected = MeshSigning {
        secret: Some("ours".to_owned()),
        lifetime: Duration::from_hours(1),
    };
    assert_eq!(run(&given).mesh_signing, Some(expected));
    for flag in ["--mesh-ca-secret=ours", "--mesh-certificate-lifetime=1h"] {
        let error = parsed(&["--replica", "a", flag]).expect_err("not granted");
        assert!(matches!(error, ArgsError::NotGranted(named) if flag.starts_with(named)));
    }
    let error = parsed(&["--sign-mesh-ca", "--mesh-ca-secret", "No Name"]).expect_err("no name of a Secret");
    assert!(matches!(error, ArgsError::Secret("--mesh-ca-secret", _)));
    let error = parsed(&["--sign-mesh-ca", "--mesh-certificate-lifetime", "1s"]).expect_err("too short");
    assert!(error.to_string().contains("from 3s to 3650d"), "{error}");
}

#[test]
fn root_of_the_mesh_is_named_as_show_or_openssl_print_it() {
    assert_eq!(
        order(&["mesh-ca", "show", "-o", "json"]),
        Order::MeshCaShow(Output::Json)
    );
    let forget = |digits: &str, force| Order::MeshCaForgetRoot {
        fingerprint: digits.to_owned(),
        force,
    };
    let given = order(&["mesh-ca", "forget-root", "AB:CD:EF:01:23"]);
    assert_eq!(given, forget("abcdef0123", false));
    assert_eq!(
        order(&["mesh-ca", "forget-root", "0123abcd", "--force"]),
        forget("0123abcd", true)
    );
    for wrong in ["0123abc", "0123abcz", "", &"0".repeat(65)] {
        let error = parsed(&["mesh-ca", "forget-root", wrong]).expect_err("no fingerprint");
        assert!(matches!(error, ArgsError::Fingerprint(_)), "{wrong}");
    }
}
