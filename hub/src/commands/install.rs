//! What is printed of a new token: the token, and the commands that join a remote by it. Pure.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use remote_istio::enrolment::{TOKEN_KEY, Token};
use remote_istio::identity::DEFAULT_TRUST_DOMAIN;
use serde_json::{Value, json};

use super::published::Published;
use super::table::moment;
use crate::crd::Approval;

/// The namespace of an agent where nothing else is said.
const AGENT_NAMESPACE: &str = "istio-system";

/// The Secret with the token, in the namespace of the agent.
const TOKEN_SECRET: &str = "remote-istio-agent-token";

/// The release of the agent's chart, and what it is called after.
const RELEASE: &str = "remote-istio-agent";

/// A token that was just made.
#[derive(Debug)]
pub(super) struct NewToken<'a> {
    pub(super) token: &'a Token,
    pub(super) remote: &'a str,
    pub(super) expires_at: Time,
    pub(super) lifetime: Duration,
    pub(super) approval: Approval,
    pub(super) link: &'a Published,
    /// The agent's chart, as the remote's administrator names it.
    pub(super) chart: &'a str,
    /// Whether there is a `RemoteIstio` of that name.
    pub(super) has_remote: bool,
    /// The cluster that bears the name already and was not released.
    pub(super) bound_to: Option<&'a str>,
}

impl NewToken<'_> {
    /// For people: what it is, what to do with it, and what may stand in the way.
    pub(super) fn text(&self) -> String {
        let pins = self.link.pins.iter().map(|pin| format!("pin       {pin}\n"));
        let (expires, lifetime) = (moment(&self.expires_at), humantime::format_duration(self.lifetime));
        let approval = match self.approval {
            Approval::Automatic => "automatic".to_owned(),
            Approval::Manual => format!("manual, by: remote-istio-hub join approve {}", self.remote),
        };
        format!(
            "token     {token}\n{pins}expires   {expires}, in {lifetime}\napproval  {approval}\n\n\
             Whoever has the token may join as {remote}, once. In the remote cluster:\n\n\
             1. A namespace for the agent, unless there is one:\n\n\
             {namespace}\n\n\
             2. The token, from the standard input:\n\n\
             {secret}\n\n\
             3. The agent:\n\n\
             {agent}\n{notes}",
            token = self.token.reveal(),
            pins = pins.collect::<String>(),
            remote = self.remote,
            namespace = indented(&namespace_command()),
            secret = indented(&self.secret_command()),
            agent = indented(&self.agent_command()),
            notes = self.notes(),
        )
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let texts = |items: Vec<String>| Value::from(items);
        json!({
            "token": self.token.reveal(),
            "id": self.token.id(),
            "remote": self.remote,
            "pins": texts(self.link.pins.iter().map(ToString::to_string).collect()),
            "enrolments": texts(self.link.enrolments.iter().map(ToString::to_string).collect()),
            "expiresAt": moment(&self.expires_at),
            "approval": self.approval,
            "namespace": AGENT_NAMESPACE,
            "values": self.values(),
            "commands": [joined(&namespace_command()), joined(&self.secret_command()), joined(&self.agent_command())],
        })
    }

    /// Server-side apply, because the other one would keep the token in an annotation; and because the Secret of an
    /// earlier join may stand there, blanked. The leading blanks keep the line out of the history of many shells.
    fn secret_command(&self) -> Vec<String> {
        vec![
            format!("printf %s '{}' |", self.token.reveal()),
            format!("kubectl create secret generic {TOKEN_SECRET} --namespace {AGENT_NAMESPACE}"),
            format!("--from-file={TOKEN_KEY}=/dev/stdin --dry-run=client --output yaml |"),
            "kubectl apply --server-side --force-conflicts --filename -".to_owned(),
        ]
    }

    /// Of the agent's chart.
    fn values(&self) -> Value {
        let texts = |items: Vec<String>| Value::from(items);
        let mut values = json!({
            "hub": {
                "enrolment": texts(self.link.enrolments.iter().map(ToString::to_string).collect()),
                "pins": texts(self.link.pins.iter().map(ToString::to_string).collect()),
            },
        });
        if self.link.trust_domain != DEFAULT_TRUST_DOMAIN {
            values["trustDomain"] = Value::from(self.link.trust_domain.as_str());
        }
        values
    }

    /// A shell and Helm both read lists in it: the first not at all, between the quotes.
    fn agent_command(&self) -> Vec<String> {
        let list = |items: Vec<String>| items.join(",");
        let enrolments = list(self.link.enrolments.iter().map(ToString::to_string).collect());
        let pins = list(self.link.pins.iter().map(ToString::to_string).collect());
        let mut lines = vec![
            format!("helm upgrade --install {RELEASE} {}", quoted(self.chart)),
            // What else was set at an earlier join stays.
            format!("--namespace {AGENT_NAMESPACE} --reset-then-reuse-values"),
            format!("--set 'hub.enrolment={{{enrolments}}}'"),
            format!("--set 'hub.pins={{{pins}}}'"),
        ];
        if self.link.trust_domain != DEFAULT_TRUST_DOMAIN {
            lines.push(format!("--set trustDomain={}", self.link.trust_domain));
        }
        lines
    }

    fn notes(&self) -> String {
        let mut notes = String::new();
        let remote = self.remote;
        if !self.has_remote {
            notes.extend([format!(
                "\nThere is no RemoteIstio {remote} yet. The remote can join before it is applied, but gets nothing.\n"
            )]);
        }
        if let Some(cluster) = self.bound_to {
            notes.extend([format!(
                "\nThe name belongs to cluster {cluster}. For another cluster, release it first:\n\n    \
                 remote-istio-hub release {remote}\n"
            )]);
        }
        notes
    }
}

fn namespace_command() -> Vec<String> {
    vec![
        format!("kubectl create namespace {AGENT_NAMESPACE} --dry-run=client --output yaml |"),
        "kubectl apply --server-side --filename -".to_owned(),
    ]
}

/// As one word of a shell.
fn quoted(text: &str) -> String {
    let is_plain = |sign: char| sign.is_ascii_alphanumeric() || "-_./:@+".contains(sign);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A command over several lines, as a shell reads it.
fn indented(lines: &[String]) -> String {
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        if number > 0 {
            // After a pipe the line goes on by itself.
            text.push_str(if text.ends_with('|') { "\n" } else { " \\\n" });
        }
        text.push_str(if number > 0 { "      " } else { "    " });
        text.push_str(line);
    }
    text
}

fn joined(lines: &[String]) -> String {
    lines.join(" ")
}

#[cfg(test)]
mod tests {
    use remote_istio::enrolment::Pin;

    use super::*;
    use crate::commands::test_objects::at;

    fn link(trust_domain: &str, addresses: &[&str]) -> Published {
        Published {
            pins: vec![Pin::of_key_info(b"ca")],
            roots: Vec::new(),
            hubs: Vec::new(),
            enrolments: addresses.iter().map(|text| text.parse().expect("an address")).collect(),
            trust_domain: trust_domain.to_owned(),
        }
    }

    fn new<'a>(token: &'a Token, link: &'a Published) -> NewToken<'a> {
        NewToken {
            token,
            remote: "remote-1",
            expires_at: Time(at(3600)),
            lifetime: Duration::from_hours(1),
            approval: Approval::Automatic,
            link,
            chart: "deploy/charts/remote-istio-agent",
            has_remote: true,
            bound_to: None,
        }
    }

    #[test]
    fn new_token_is_printed_with_everything_that_a_join_takes() {
        let (token, link) = (
            Token::new([1; 5], [2; 32]),
            link(DEFAULT_TRUST_DOMAIN, &["hub.test:8443"]),
        );
        let (secret, pin) = (token.reveal(), Pin::of_key_info(b"ca"));
        let expected = format!(
            "token     {secret}
pin       {pin}
expires   2027-01-15T09:00:00Z, in 1h
approval  automatic

Whoever has the token may join as remote-1, once. In the remote cluster:

1. A namespace for the agent, unless there is one:

    kubectl create namespace istio-system --dry-run=client --output yaml |
      kubectl apply --server-side --filename -

2. The token, from the standard input:

    printf %s '{secret}' |
      kubectl create secret generic remote-istio-agent-token --namespace istio-system \\
      --from-file=token=/dev/stdin --dry-run=client --output yaml |
      kubectl apply --server-side --force-conflicts --filename -

3. The agent:

    helm upgrade --install remote-istio-agent deploy/charts/remote-istio-agent \\
      --namespace istio-system --reset-then-reuse-values \\
      --set 'hub.enrolment={{hub.test:8443}}' \\
      --set 'hub.pins={{{pin}}}'
"
        );
        let text = new(&token, &link).text();
        assert_eq!(text, expected);
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }

    #[test]
    fn what_may_stand_in_the_way_of_a_join_is_said_with_the_token() {
        let (token, link) = (
            Token::new([1; 5], [2; 32]),
            link("mesh.test", &["a.test:1", "[2001:db8::1]:2"]),
        );
        let text = NewToken {
            has_remote: false,
            bound_to: Some("uid"),
            approval: Approval::Manual,
            chart: "my charts/agent's",
            ..new(&token, &link)
        }
        .text();
        for part in [
            "approval  manual, by: remote-istio-hub join approve remote-1",
            "--set 'hub.enrolment={a.test:1,[2001:db8::1]:2}' \\\n",
            "--set trustDomain=mesh.test\n",
            "helm upgrade --install remote-istio-agent 'my charts/agent'\\''s' \\\n",
            "There is no RemoteIstio remote-1 yet.",
            "The name belongs to cluster uid.",
            "remote-istio-hub release remote-1",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn json_of_a_new_token_has_commands_in_one_line() {
        let (token, link) = (
            Token::new([1; 5], [2; 32]),
            link(DEFAULT_TRUST_DOMAIN, &["hub.test:8443"]),
        );
        let (secret, pin) = (token.reveal(), Pin::of_key_info(b"ca"));
        let expected = json!({
            "token": secret,
            "id": token.id(),
            "remote": "remote-1",
            "pins": [pin.to_string()],
            "enrolments": ["hub.test:8443"],
            "expiresAt": "2027-01-15T09:00:00Z",
            "approval": "Automatic",
            "namespace": "istio-system",
            "values": {"hub": {"enrolment": ["hub.test:8443"], "pins": [pin.to_string()]}},
            "commands": [
                "kubectl create namespace istio-system --dry-run=client --output yaml | \
                 kubectl apply --server-side --filename -",
                format!(
                    "printf %s '{secret}' | kubectl create secret generic remote-istio-agent-token \
                     --namespace istio-system --from-file=token=/dev/stdin --dry-run=client --output yaml | \
                     kubectl apply --server-side --force-conflicts --filename -"
                ),
                format!(
                    "helm upgrade --install remote-istio-agent deploy/charts/remote-istio-agent --namespace istio-system \
                     --reset-then-reuse-values --set 'hub.enrolment={{hub.test:8443}}' --set 'hub.pins={{{pin}}}'"
                ),
            ],
        });
        assert_eq!(new(&token, &link).json(), expected);
    }
}
