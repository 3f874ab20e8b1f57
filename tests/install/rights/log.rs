//! What an audit log says of the accounts of some namespaces: what they were let do, and what they were refused.

use std::collections::BTreeSet;

use serde_json::Value;

use super::rule::Use;

/// What every account of every cluster may do: read what kinds there are, and ask who it is.
const EVERYBODY: [&str; 4] = [
    "system:discovery",
    "system:basic-user",
    "system:public-info-viewer",
    "system:service-account-issuer-discovery",
];

/// What was let and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// What was let, whatever came of it.
    pub uses: BTreeSet<Use>,
    /// What was refused for want of a right.
    pub refused: BTreeSet<Use>,
}

impl Asked {
    /// Reads a log, one event a line, of the accounts of these namespaces.
    pub fn read(log: &str, namespaces: &[&str]) -> Self {
        let mut asked = Self::default();
        let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.for_each(|event| asked.note(&event, namespaces));
        asked
    }

    fn note(&mut self, event: &Value, namespaces: &[&str]) {
        let Some(account) = account(event).filter(|account| {
            let namespace = account.split('/').next().unwrap_or_default();
            namespaces.contains(&namespace)
        }) else {
            return;
        };
        let Some(used) = used(account, event) else { return };
        let code = event["responseStatus"]["code"].as_u64().unwrap_or_default();
        let decision = &event["annotations"]["authorization.k8s.io/decision"];
        if decision == "forbid" || is_refusal(event) {
            self.refused.insert(used);
        } else if !is_everybodys(event) {
            // An apply that creates is one request, and takes both rights.
            if used.verb == "patch" && code == 201 {
                self.uses.insert(Use {
                    verb: "create".to_owned(),
                    ..used.clone()
                });
            }
            self.uses.insert(used);
        }
    }
}

/// A refusal that comes after the request itself was let: that of an apply that may not create.
fn is_refusal(event: &Value) -> bool {
    let message = event["responseStatus"]["message"].as_str().unwrap_or_default();
    event["responseStatus"]["code"] == 403 && message.contains(" cannot ")
}

fn is_everybodys(event: &Value) -> bool {
    let reason = event["annotations"]["authorization.k8s.io/reason"].as_str();
    reason.is_some_and(|reason| EVERYBODY.iter().any(|role| reason.contains(&format!("\"{role}\""))))
}

/// `NAMESPACE/NAME` of a `ServiceAccount`.
fn account(event: &Value) -> Option<String> {
    let name = event["user"]["username"].as_str()?;
    Some(name.strip_prefix("system:serviceaccount:")?.replacen(':', "/", 1))
}

/// Nothing for a question about no resource.
fn used(account: String, event: &Value) -> Option<Use> {
    let object = event.get("objectRef")?;
    let text = |name: &str| object[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let resource = text("resource")?;
    let verb = event["verb"].as_str()?.to_owned();
    Some(Use {
        account,
        group: text("apiGroup").unwrap_or_default(),
        resource: match text("subresource") {
            Some(part) => format!("{resource}/{part}"),
            None => resource.clone(),
        },
        // A namespace is asked for as if it were in itself.
        namespace: text("namespace").filter(|_| resource != "namespaces"),
        // The name of what is made is read from its body, and the authorizer never sees it.
        name: text("name").filter(|_| verb != "create"),
        verb,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(verb: &str, code: u16, object: &Value) -> Value {
        json!({
            "verb": verb,
            "user": {"username": "system:serviceaccount:mesh:agent"},
            "objectRef": object,
            "responseStatus": {"code": code},
            "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": "RBAC: ours"},
        })
    }

    fn read(events: &[Value]) -> Vec<String> {
        let log: Vec<String> = events.iter().map(Value::to_string).collect();
        let asked = Asked::read(&log.join("\n"), &["mesh"]);
        let uses = asked.uses.iter().map(|used| format!("let {used}"));
        uses.chain(asked.refused.iter().map(|used| format!("refused {used}")))
            .collect()
    }

    #[test]
    fn apply_that_creates_takes_both_rights() {
        let object = json!({"resource": "configmaps", "namespace": "mesh", "name": "a"});
        assert_eq!(
            read(&[event("patch", 201, &object)]),
            [
                "let mesh/agent create configmaps a in mesh",
                "let mesh/agent patch configmaps a in mesh"
            ]
        );
        assert_eq!(
            read(&[event("patch", 200, &object)]),
            ["let mesh/agent patch configmaps a in mesh"]
        );
    }

    #[test]
    fn name_of_what_is_made_is_not_what_was_asked_for() {
        let object = json!({"resource": "leases", "apiGroup": "coordination.k8s.io", "namespace": "mesh", "name": "a"});
        assert_eq!(
            read(&[event("create", 201, &object)]),
            ["let mesh/agent create leases.coordination.k8s.io in mesh"]
        );
    }

    #[test]
    fn refusals_stand_apart_and_so_does_what_failed_otherwise() {
        let object = json!({"resource": "pods", "subresource": "status", "namespace": "mesh", "name": "a"});
        let mut refused = event("update", 403, &object);
        refused["annotations"]["authorization.k8s.io/decision"] = json!("forbid");
        let mut late = event("patch", 403, &object);
        late["responseStatus"]["message"] = json!("pods is forbidden: User x cannot create resource pods");
        let mut quota = event("create", 403, &object);
        quota["responseStatus"]["message"] = json!("exceeded quota");
        assert_eq!(
            read(&[refused, late, quota, event("get", 404, &object)]),
            [
                "let mesh/agent create pods/status in mesh",
                "let mesh/agent get pods/status a in mesh",
                "refused mesh/agent patch pods/status a in mesh",
                "refused mesh/agent update pods/status a in mesh",
            ]
        );
    }

    #[test]
    fn what_everybody_may_is_left_out_and_so_are_others_and_questions_about_nothing() {
        let object = json!({"resource": "selfsubjectreviews", "apiGroup": "authentication.k8s.io", "apiVersion": "v1"});
        let mut everybodys = event("create", 201, &object);
        everybodys["annotations"]["authorization.k8s.io/reason"] =
            json!("RBAC: allowed by ClusterRoleBinding \"system:basic-user\" of ClusterRole \"system:basic-user\"");
        let mut other = event("get", 200, &json!({"resource": "pods", "namespace": "mesh"}));
        other["user"]["username"] = json!("system:serviceaccount:elsewhere:agent");
        let mut admin = other.clone();
        admin["user"]["username"] = json!("admin");
        let mut nothing = event("get", 200, &Value::Null);
        nothing.as_object_mut().expect("an object").remove("objectRef");
        assert_eq!(read(&[everybodys, other, admin, nothing]), Vec::<String>::new());
    }

    #[test]
    fn namespace_is_in_none() {
        let object = json!({"resource": "namespaces", "namespace": "shop", "name": "shop"});
        assert_eq!(
            read(&[event("patch", 200, &object)]),
            ["let mesh/agent patch namespaces shop in no namespace, or in all"]
        );
    }
}
