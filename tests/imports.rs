//! The pure core stays pure: no module of it imports a runtime, a client, the system, a clock or chance.

use std::fs;
use std::path::{Path, PathBuf};

/// Files and folders of the pure core, from the root of the workspace. A folder stands for all files under it, and a
/// module with parts is named twice.
const PURE: &[&str] = &[
    "proto/convert",
    "proto/convert.rs",
    "proto/enrolment/pin.rs",
    "proto/enrolment/proof.rs",
    "proto/enrolment/token.rs",
    "proto/identity.rs",
    "proto/lane",
    "proto/lane.rs",
    "proto/limits.rs",
    "proto/liveness.rs",
    "proto/model",
    "proto/model.rs",
    "proto/policy",
    "proto/policy.rs",
    "hub/src/commands/install.rs",
    "hub/src/commands/table.rs",
    "hub/src/enrolment/decide.rs",
    "hub/src/enrolment/sources.rs",
    "hub/src/authority/certificate.rs",
    "hub/src/authority/link_ca",
    "hub/src/authority/link_ca.rs",
    "hub/src/authority/past.rs",
    "hub/src/authority/request.rs",
    "hub/src/events/merge.rs",
    "hub/src/index",
    "hub/src/index.rs",
    "hub/src/lease/election.rs",
    "hub/src/mesh_ca/choice.rs",
    "hub/src/mesh_ca/issue.rs",
    "hub/src/mesh_ca/pace.rs",
    "hub/src/mesh_ca/path.rs",
    "hub/src/mesh_ca/problem.rs",
    "hub/src/mesh_ca/roots.rs",
    "hub/src/mesh_ca/signer.rs",
    "hub/src/lifecycle/clearing.rs",
    "hub/src/lifecycle/grave.rs",
    "hub/src/lifecycle/guard.rs",
    "hub/src/lifecycle/tombstone.rs",
    "hub/src/registry",
    "hub/src/registry.rs",
    "hub/src/report.rs",
    "hub/src/session",
    "hub/src/session.rs",
    "hub/src/status/allowed.rs",
    "hub/src/status/authority.rs",
    "hub/src/status/changes.rs",
    "hub/src/status/components.rs",
    "hub/src/status/compute.rs",
    "hub/src/status/conditions.rs",
    "hub/src/status/entry.rs",
    "hub/src/status/facts.rs",
    "hub/src/status/finalizer.rs",
    "hub/src/status/findings.rs",
    "hub/src/status/identity.rs",
    "hub/src/status/mesh_trust.rs",
    "agent/src/engine",
    "agent/src/engine.rs",
    "agent/src/identity/kept.rs",
    "agent/src/identity/pauses.rs",
    "agent/src/identity/schedule.rs",
    "agent/src/identity/step.rs",
    "agent/src/injector_probe/endpoints.rs",
    "agent/src/mesh_trust/chain.rs",
    "agent/src/mesh_trust/secret.rs",
    "agent/src/mesh_trust/step.rs",
    "agent/src/policy/file.rs",
    "agent/src/session.rs",
];

/// Paths that no pure module may name, nor anything under them. Types of addresses and objects are no I/O, and a
/// moment that is handed in is no clock.
const FORBIDDEN: &[&str] = &[
    "tokio",
    "tokio_stream",
    "tokio_util",
    "tonic",
    "hyper",
    "hyper_util",
    "axum",
    "kube::Api",
    "kube::Client",
    "kube::Config",
    "kube::api",
    "kube::client",
    "kube::config",
    "kube::runtime",
    "std::env",
    "std::fs",
    "std::io::stdin",
    "std::io::stdout",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime::now",
    "Instant::now",
    "SystemTime::now",
    "jiff::Timestamp::now",
    "Timestamp::now",
    "rand::random",
    "rand::rng",
    "rand::thread_rng",
    "crate::app",
    "crate::apply",
    "crate::clock",
    "crate::driver",
    "crate::link",
    "crate::observe",
    "crate::process",
    "crate::state",
    "crate::tls",
    "crate::transport",
    "crate::watch",
    "remote_istio::process::Admin",
    "remote_istio::process::Tasks",
    "remote_istio::process::init_logging",
    "remote_istio::process::shutdown_signal",
    "remote_istio::tls",
    "remote_istio::transport",
];

#[test]
fn no_pure_module_imports_input_output_clock_or_chance() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for name in PURE {
        let path = root.join(name);
        assert!(
            path.exists(),
            "{name} is listed as pure, but it is not there: correct the list"
        );
        collect(&path, &mut files);
    }
    assert!(files.len() > PURE.len(), "only {} files found", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a source file can be read");
        let shown = file
            .strip_prefix(&root)
            .expect("it lies under the root")
            .display()
            .to_string();
        wrong.extend(forbidden(&text).into_iter().map(|path| format!("{shown}: {path}")));
    }
    assert!(
        wrong.is_empty(),
        "the pure core imports what it must not:\n{}",
        wrong.join("\n")
    );
}

/// Source files under `path`, without those of tests.
fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    if name == "tests" || name.starts_with("test_") {
        return;
    }
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a source folder can be read") {
            collect(&entry.expect("an entry").path(), files);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        files.push(path.to_owned());
    }
}

/// The forbidden paths that a source text names outside of comments and of its tests.
fn forbidden(source: &str) -> Vec<String> {
    let code = production(source);
    let mut named = imports(&code);
    named.extend(paths(&code));
    named.retain(|path| FORBIDDEN.iter().any(|rule| is_under(path, rule)));
    named.sort();
    named.dedup();
    named
}

/// `path` is `rule` or lies under it.
fn is_under(path: &str, rule: &str) -> bool {
    let path = path.trim_start_matches("::");
    path.strip_prefix(rule)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Without comments, and up to the tests, which stand last.
fn production(source: &str) -> String {
    let mut code = String::new();
    let mut lines = source.lines().peekable();
    while let Some(line) = lines.next() {
        let opens_tests = line.trim() == "#[cfg(test)]"
            && lines
                .peek()
                .is_some_and(|next| next.trim_start().starts_with("mod ") && next.trim_end().ends_with('{'));
        if opens_tests {
            break;
        }
        code.push_str(line.split("//").next().unwrap_or_default());
        code.push('\n');
    }
    code
}

/// Every path that a `use` names, with its braces taken apart.
fn imports(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(start) = rest.find("use ") {
        let before = rest[..start].chars().next_back();
        rest = &rest[start + "use ".len()..];
        if before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_') {
            continue;
        }
        let end = rest.find(';').unwrap_or(rest.len());
        let tree: String = rest[..end].split_whitespace().collect::<Vec<_>>().join(" ");
        flatten("", &tree, &mut found);
        rest = &rest[end..];
    }
    found
}

/// Takes one tree of a `use` apart.
fn flatten(prefix: &str, tree: &str, found: &mut Vec<String>) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        found.push(format!("{prefix}{path}").trim_end_matches("::self").to_owned());
        return;
    };
    let closing = tree.rfind('}').unwrap_or(tree.len());
    let inner = &tree[open + 1..closing];
    let prefix = format!("{prefix}{}", &tree[..open]);
    let (mut depth, mut from) = (0_usize, 0);
    for (position, letter) in inner.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                flatten(&prefix, &inner[from..position], found);
                from = position + 1;
            }
            _ => {}
        }
    }
    if !inner[from..].trim().is_empty() {
        flatten(&prefix, &inner[from..], found);
    }
}

/// Every `a::b::c` of the code.
fn paths(code: &str) -> Vec<String> {
    let separators = |letter: char| !(letter.is_alphanumeric() || letter == '_' || letter == ':');
    let words = code.split(separators).filter(|word| word.contains("::"));
    words.map(|word| word.trim_matches(':').to_owned()).collect()
}

#[test]
fn forbidden_imports_are_found_however_they_are_written() {
    let found = |source: &str| forbidden(source);
    assert_eq!(found("use std::{fmt, fs::{self, File}};"), ["std::fs", "std::fs::File"]);
    assert_eq!(found("use std::time::{Duration, Instant};"), ["std::time::Instant"]);
    assert_eq!(
        found("pub(crate) use tokio::sync::mpsc as channel;"),
        ["tokio::sync::mpsc"]
    );
    assert_eq!(
        found("fn now() { let _ = ::std::time::SystemTime::now(); }"),
        ["std::time::SystemTime::now"]
    );
    assert_eq!(found("fn roll() -> u8 { rand::random() }"), ["rand::random"]);
    assert_eq!(found("use kube::{Api, CustomResource};"), ["kube::Api"]);
}

#[test]
fn types_comments_and_tests_are_let_through() {
    assert!(forbidden("use std::net::{IpAddr, SocketAddr};\nuse std::time::{Duration, SystemTime};").is_empty());
    assert!(forbidden("// unlike tokio::time\n/// see [`std::fs`]\nfn pure() {}").is_empty());
    assert!(forbidden("fn pure() {}\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}").is_empty());
    assert!(forbidden("use kube::CustomResource;\nuse crate::linked::Thing;").is_empty());
}
