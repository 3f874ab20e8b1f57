//! Command lines: what is wrong is named, with the exit code for it.

use std::path::PathBuf;

use crate::mesh::{Mesh, run, run_agent, run_hub};

#[test]
fn wrong_flags_end_with_64_and_name_the_flag() {
    run(async {
        for (arguments, named) in [
            (vec!["run", "--no-such-flag"], "--no-such-flag"),
            (vec!["run", "--sync-address", "nowhere"], "--sync-address"),
            (
                vec!["run", "--link-ca", "files", "--certificate", "/nonexistent/tls.crt"],
                "--key",
            ),
            (vec!["run", "--certificate", "/nonexistent/tls.crt"], "--link-ca files"),
            (vec!["run", "--certificate-lifetime", "1s"], "--certificate-lifetime"),
            (vec!["run", "--public-sync", "https://hub.example.com"], "--public-sync"),
            (vec!["token", "create", "Not_A_Name"], "Not_A_Name"),
            (vec!["token", "create", "remote-1", "--ttl", "0s"], "--ttl"),
            (vec!["ca", "drop", "--forget", "Not_A_Name"], "Not_A_Name"),
        ] {
            let (code, said) = run_hub(&arguments).await;
            assert_eq!(code, 64, "{arguments:?}: {said}");
            assert!(said.contains(named), "{arguments:?}: {said}");
        }
        for (arguments, named) in [
            (vec!["run", "--no-such-flag"], "--no-such-flag"),
            (
                vec![
                    "run",
                    "--certificate=c",
                    "--key=k",
                    "--trust-bundle=b",
                    "--hub=https://hub.example.com",
                ],
                "--hub",
            ),
            (vec!["run"], "--enrolment"),
            (
                vec!["run", "--enrolment", "hub.example.com:8443", "--token-file", "t"],
                "--pin",
            ),
            (
                vec!["run", "--enrolment", "hub.example.com:8443", "--key", "k"],
                "--key",
            ),
        ] {
            let (code, said) = run_agent(&arguments).await;
            assert_eq!(code, 64, "{arguments:?}: {said}");
            assert!(said.contains(named), "{arguments:?}: {said}");
        }
        for program in ["--help", "--version"] {
            assert_eq!(run_hub(&[program]).await.0, 0);
            assert_eq!(run_agent(&[program]).await.0, 0);
        }
    });
}

#[test]
fn hub_whose_certificate_is_missing_ends_with_64_and_names_the_flag() {
    run(async {
        let mut mesh = Mesh::without_hub("no-certificate").await;
        let line = mesh.hub_mut().command_mut();
        line.set_flag("certificate", ["/nonexistent/tls.crt"]);
        mesh.launch_hub();
        assert_eq!(mesh.hub_mut().wait().await.expect("it ends"), 64);
        let log = mesh.hub_log();
        assert!(
            log.contains("--certificate") && log.contains("/nonexistent/tls.crt"),
            "{log}"
        );
    });
}

#[test]
fn crd_command_prints_the_files_of_the_chart() {
    run(async {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/charts/remote-istio-hub/files/crds");
        let mut all = Vec::new();
        for name in ["remoteistios", "remoteidentities", "jointokens"] {
            let (code, printed) = run_hub(&["crd", name]).await;
            assert_eq!(code, 0, "{name}");
            let kept = std::fs::read_to_string(folder.join(format!("{name}.yaml"))).expect("a file of the chart");
            assert_eq!(printed.trim(), kept.trim(), "run `make docs`");
            all.push(kept.trim().to_owned());
        }
        let (code, printed) = run_hub(&["crd"]).await;
        assert_eq!(code, 0);
        assert_eq!(printed.trim(), all.join("\n---\n"));
    });
}

#[test]
fn page_of_flags_is_what_the_programs_print() {
    run(async {
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/flags.md");
        let page = std::fs::read_to_string(file).expect("docs/flags.md");
        for (code, printed) in [run_hub(&["run", "--help"]).await, run_agent(&["run", "--help"]).await] {
            assert_eq!(code, 0);
            assert!(
                page.contains(printed.trim()),
                "docs/flags.md is not current, run `make docs`:\n{printed}"
            );
        }
    });
}
