//! `remote-istio-agent check`: says what works and what does not.

use crate::mesh::{Mesh, Setup, run, run_agent};

/// Runs the command with exactly what the agent of a remote is run with.
async fn check(mesh: &mut Mesh<'_>) -> (i32, String) {
    let agent = mesh.remote_mut(0).agent_mut();
    let url = format!("--agent=http://{}", agent.metrics_address());
    let arguments = agent.command().arguments.iter().skip(1);
    let arguments: Vec<String> = arguments
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let mut words = vec!["check", url.as_str()];
    words.extend(arguments.iter().map(String::as_str));
    run_agent(&words).await
}

/// The line about one part.
fn line<'a>(said: &'a str, part: &str) -> &'a str {
    let of_part = |line: &&str| line.get(6..).is_some_and(|rest| rest.starts_with(part));
    said.lines()
        .find(of_part)
        .unwrap_or_else(|| panic!("nothing about {part}:\n{said}"))
}

#[test]
fn everything_that_works_is_said_line_by_line() {
    run(async {
        let mut mesh = Mesh::joinable("check-good", 1, Setup::made()).await;
        let invitation = mesh.invite(0).await;
        mesh.give_without_token(0, &invitation);
        mesh.launch_agent(0).await;
        mesh.until_agent_logs(0, "waiting for a token").await;
        let (code, said) = check(&mut mesh).await;
        assert_eq!(code, 1, "{said}");
        assert!(line(&said, "API server").starts_with("ok "), "{said}");
        let identity = line(&said, "identity");
        assert!(identity.starts_with("FAIL") && identity.contains("no token"), "{said}");
        let agent = line(&said, "agent");
        assert!(
            agent.starts_with("FAIL") && agent.contains("waiting for a token"),
            "{said}"
        );

        crate::mesh::write_token(&mesh.token_file(0), &invitation.token);
        mesh.remote(0).until_agent_is_ready().await;
        let (code, said) = check(&mut mesh).await;
        assert_eq!(code, 0, "{said}");
        assert!(line(&said, "identity").contains("joined as check-good-0"), "{said}");
        assert!(line(&said, "hub").contains("takes this agent"), "{said}");
        assert!(said.lines().all(|line| line.starts_with("ok ")), "{said}");
    });
}

// Turns red when: the check opens a session, and so ends that of the agent that runs.
#[test]
fn check_opens_no_session() {
    run(async {
        let mut mesh = Mesh::joinable("check-still", 1, Setup::made()).await;
        mesh.join(0).await;
        mesh.until_sessions(1).await;
        let ended = mesh.hub_metric("sessions_ended_total", &[]).await;
        let (code, said) = check(&mut mesh).await;
        assert_eq!(code, 0, "{said}");
        let now = mesh.hub_metric("sessions_ended_total", &[]).await;
        assert!((now - ended).abs() < 0.5, "{ended} became {now}");
        mesh.until_sessions(1).await;
    });
}

#[test]
fn hub_that_takes_this_agent_no_longer_is_said_in_its_words() {
    run(async {
        let mut mesh = Mesh::joinable("check-bad", 1, Setup::made()).await;
        mesh.join(0).await;
        mesh.command(&["revoke", "check-bad-0"]).await;
        let (code, said) = check(&mut mesh).await;
        assert_eq!(code, 1, "{said}");
        let hub = line(&said, "hub");
        assert!(hub.starts_with("FAIL") && hub.contains("revoked"), "{said}");

        mesh.remote_mut(0).kill_agent().await;
        mesh.kill_hub().await;
        let (code, said) = check(&mut mesh).await;
        assert_eq!(code, 1, "{said}");
        assert!(line(&said, "hub").starts_with("FAIL"), "{said}");
        let agent = line(&said, "agent");
        assert!(
            agent.starts_with("FAIL") && agent.contains("does the agent's pod run?"),
            "{said}"
        );
    });
}

#[test]
fn certificate_files_and_their_hub_are_checked_too() {
    run(async {
        let mut mesh = Mesh::start("check-files").await;
        mesh.remote(0).until_agent_is_ready().await;
        let (code, said) = check(&mut mesh).await;
        assert_eq!(code, 0, "{said}");
        assert!(line(&said, "identity").contains("that of check-files-0"), "{said}");
    });
}
