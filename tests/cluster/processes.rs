//! Command lines: what is wrong is named, with the exit code for it.

use std::path::PathBuf;

use crate::mesh::{run, run_agent, run_hub};

#[test]
fn wrong_flags_end_with_64_and_name_the_flag() {
    run(async {
        for (arguments, named) in [
            (vec!["run", "--no-such-flag"], "--no-such-flag"),
            (vec!["run", "--sync-address", "nowhere"], "--sync-address"),
            (vec!["run", "--certificate", "/nonexistent/tls.crt"], "--key"),
            (
                vec![
                    "run",
                    "--certificate",
                    "/nonexistent/tls.crt",
                    "--key",
                    "/nonexistent/tls.key",
                    "--trust-bundle",
                    "/nonexistent/ca.crt",
                ],
                "--certificate",
            ),
        ] {
            let (code, said) = run_hub(&arguments).await;
            assert_eq!(code, 64, "{arguments:?}: {said}");
            assert!(said.contains(named), "{arguments:?}: {said}");
        }
        for (arguments, named) in [
            (vec!["run", "--no-such-flag"], "--no-such-flag"),
            (vec!["run", "--hub", "https://hub.example.com"], "--hub"),
            (vec!["run"], "--hub"),
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
fn crd_command_prints_the_file_under_deploy() {
    run(async {
        let (code, printed) = run_hub(&["crd"]).await;
        assert_eq!(code, 0);
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds/remoteistios.yaml");
        let kept = std::fs::read_to_string(file).expect("deploy/crds/remoteistios.yaml");
        assert_eq!(printed.trim(), kept.trim());
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
