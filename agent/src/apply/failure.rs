//! What an answer of the API server means for a write. Pure.

use kube::Error;
use kube::core::Status;
use kube::core::response::reason;

use crate::engine::{Failure, Kind, Verb};

/// Cause of a refusal to create anything in a namespace that is being deleted.
const NAMESPACE_TERMINATING: &str = "NamespaceTerminating";

/// What etcd says of an object over its limit.
const ETCD_TOO_LARGE: &str = "request is too large";

/// What the authorizer says, and nobody else.
const RBAC: &str = " cannot ";

/// What an apply with a UID says when there is no object to carry it.
const NOTHING_TO_APPLY_TO: &str = "no existing object was found";

/// The error in words for people: of an answer only the API server's own, of all others with their causes.
#[must_use]
pub fn explain(error: &Error) -> String {
    if let Error::Api(status) = error {
        return status.message.clone();
    }
    let mut text = match error {
        // Its own words only say that it is one.
        Error::Service(inner) => inner.to_string(),
        error => error.to_string(),
    };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// Why a write failed.
#[must_use]
pub fn classify(error: &Error, verb: Verb, kind: Kind) -> Failure {
    match error {
        Error::Api(status) => classify_status(status, verb, kind),
        Error::BuildRequest(_) => Failure::Rejected(explain(error)),
        _ => unavailable(explain(error)),
    }
}

/// It may or may not have taken effect.
#[must_use]
pub fn unavailable(message: String) -> Failure {
    Failure::Unavailable {
        message,
        retry_after_milliseconds: None,
    }
}

fn classify_status(status: &Status, verb: Verb, kind: Kind) -> Failure {
    let message = status.message.clone();
    match status.code {
        // etcd's own limit, which the API server passes on as an internal error: no second try helps.
        500 if message.contains(ETCD_TOO_LARGE) => Failure::Rejected(message),
        404 if speaks_of_namespace(status) && kind != Kind::Namespace => Failure::NamespaceMissing(message),
        404 if verb != Verb::Create => Failure::NotFound,
        409 if status.reason == reason::ALREADY_EXISTS => Failure::AlreadyExists,
        409 if verb == Verb::Apply && message.contains(NOTHING_TO_APPLY_TO) => Failure::NotFound,
        // A POST conflicts with nothing of its own: the API server's bookkeeping (a quota) was overtaken.
        409 if verb != Verb::Create => Failure::Conflict(message),
        // The owned UID in the body met a stranger of the same name.
        422 if matches!(verb, Verb::Apply | Verb::Release) && is_about_uid(status) => Failure::Conflict(message),
        403 => classify_forbidden(status, verb, kind),
        // Neither can be cured by waiting a moment, nor told apart by their codes: validation and webhooks.
        400 | 405 | 406 | 413 | 415 | 422 => Failure::Rejected(message),
        _ => Failure::Unavailable {
            message,
            retry_after_milliseconds: retry_after_milliseconds(status),
        },
    }
}

fn classify_forbidden(status: &Status, verb: Verb, kind: Kind) -> Failure {
    let message = status.message.clone();
    let causes = status.details.iter().flat_map(|details| &details.causes);
    if causes.into_iter().any(|cause| cause.reason == NAMESPACE_TERMINATING) {
        return Failure::NamespaceMissing(message);
    }
    let by_rbac = message.contains(RBAC) && message.contains(" resource ");
    // The role lacks `create` for namespaces on purpose, and the API server asks for it when there is none to patch.
    if by_rbac && kind == Kind::Namespace && verb == Verb::Apply && message.contains(" cannot create ") {
        return Failure::NotFound;
    }
    if by_rbac {
        Failure::Forbidden(message)
    } else {
        Failure::Rejected(message)
    }
}

fn is_about_uid(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.field == "metadata.uid")
}

fn speaks_of_namespace(status: &Status) -> bool {
    status
        .details
        .as_ref()
        .is_some_and(|details| details.kind == "namespaces" && details.group.is_empty())
}

fn retry_after_milliseconds(status: &Status) -> Option<u64> {
    let seconds = status.details.as_ref()?.retry_after_seconds;
    (seconds > 0).then(|| u64::from(seconds) * 1_000)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A failure as the API server writes it.
    fn status(code: u16, reason: &str, message: &str, details: &Value) -> Error {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "code": code, "reason": reason, "message": message, "details": details,
        });
        Error::Api(serde_json::from_value(status).expect("a status"))
    }

    fn is(error: &Error, verb: Verb, kind: Kind, expected: &Failure) {
        assert_eq!(&classify(error, verb, kind), expected);
    }

    #[test]
    fn taken_name_is_no_conflict_and_a_conflict_is_no_taken_name() {
        let text = r#"endpointslices.discovery.k8s.io "a" already exists"#;
        let taken = status(
            409,
            "AlreadyExists",
            text,
            &json!({"name": "a", "kind": "endpointslices"}),
        );
        is(&taken, Verb::Create, Kind::EndpointSlice, &Failure::AlreadyExists);

        let text = r#"Service "a" is invalid: metadata.uid: Invalid value: "1": field is immutable"#;
        let causes = json!({"name": "a", "kind": "Service", "causes": [
            {"reason": "FieldValueInvalid", "message": "Invalid value: \"1\": field is immutable", "field": "metadata.uid"},
        ]});
        let stranger = status(422, "Invalid", text, &causes);
        is(
            &stranger,
            Verb::Apply,
            Kind::Service,
            &Failure::Conflict(text.to_owned()),
        );

        let text = r#"Operation cannot be fulfilled on Service "a": the UID in the precondition (1) does not match the UID in record (2). The object might have been deleted and then recreated"#;
        let stranger = status(409, "Conflict", text, &json!({"name": "a", "kind": "Service"}));
        is(
            &stranger,
            Verb::Delete,
            Kind::Service,
            &Failure::Conflict(text.to_owned()),
        );

        let text = r#"Apply failed with 1 conflict: conflict with "kubectl-label": .metadata.labels.istio-injection"#;
        let causes = json!({"causes": [{"reason": "FieldManagerConflict", "message": text}]});
        let labelled = status(409, "Conflict", text, &causes);
        is(
            &labelled,
            Verb::Apply,
            Kind::Namespace,
            &Failure::Conflict(text.to_owned()),
        );
    }

    #[test]
    fn quota_that_was_overtaken_is_tried_again() {
        let text = r#"Operation cannot be fulfilled on resourcequotas "q": the object has been modified"#;
        let overtaken = status(409, "Conflict", text, &json!({"name": "q", "kind": "resourcequotas"}));
        is(&overtaken, Verb::Create, Kind::Service, &unavailable(text.to_owned()));
    }

    #[test]
    fn object_that_is_gone_is_not_found() {
        let gone = status(
            404,
            "NotFound",
            r#"services "a" not found"#,
            &json!({"name": "a", "kind": "services"}),
        );
        is(&gone, Verb::Delete, Kind::Service, &Failure::NotFound);
        is(&gone, Verb::Apply, Kind::Service, &Failure::NotFound);
        let text = r#"Operation cannot be fulfilled on services "a": uid mismatch: the provided object specified uid 1, and no existing object was found"#;
        let gone = status(409, "Conflict", text, &json!({"name": "a", "kind": "services"}));
        is(&gone, Verb::Apply, Kind::Service, &Failure::NotFound);
    }

    #[test]
    fn missing_or_ending_namespace_is_told_from_a_missing_object() {
        let text = r#"namespaces "mesh" not found"#;
        let missing = status(404, "NotFound", text, &json!({"name": "mesh", "kind": "namespaces"}));
        is(
            &missing,
            Verb::Create,
            Kind::Service,
            &Failure::NamespaceMissing(text.to_owned()),
        );
        is(&missing, Verb::Apply, Kind::Namespace, &Failure::NotFound);
        let text = r#"services "a" is forbidden: unable to create new content in namespace mesh because it is being terminated"#;
        let causes = json!({"name": "a", "kind": "services", "causes": [
            {"reason": "NamespaceTerminating", "message": "namespace mesh is being terminated", "field": "metadata.namespace"},
        ]});
        let ending = status(403, "Forbidden", text, &causes);
        is(
            &ending,
            Verb::Create,
            Kind::Service,
            &Failure::NamespaceMissing(text.to_owned()),
        );
    }

    #[test]
    fn refusal_by_role_is_told_from_one_by_admission() {
        let text = r#"endpoints is forbidden: User "system:serviceaccount:istio-system:remote-istio-agent" cannot create resource "endpoints" in API group "" in the namespace "istio-system""#;
        let role = status(403, "Forbidden", text, &json!({"kind": "endpoints"}));
        is(
            &role,
            Verb::Create,
            Kind::Endpoints,
            &Failure::Forbidden(text.to_owned()),
        );

        let text = r#"services "a" is forbidden: exceeded quota: q, requested: services=1, used: services=0, limited: services=0"#;
        let quota = status(403, "Forbidden", text, &json!({"name": "a", "kind": "services"}));
        is(&quota, Verb::Create, Kind::Service, &Failure::Rejected(text.to_owned()));

        let text = r#"admission webhook "policy.example.com" denied the request: no"#;
        for code in [400, 403, 422] {
            let webhook = status(code, "", text, &Value::Null);
            is(
                &webhook,
                Verb::Apply,
                Kind::Service,
                &Failure::Rejected(text.to_owned()),
            );
        }
    }

    #[test]
    fn missing_namespace_is_not_mistaken_for_a_missing_role() {
        let text = |verb: &str| {
            format!(r#"namespaces "gone" is forbidden: User "x" cannot {verb} resource "namespaces" in API group """#)
        };
        let refused = |verb| {
            status(
                403,
                "Forbidden",
                &text(verb),
                &json!({"name": "gone", "kind": "namespaces"}),
            )
        };
        is(&refused("create"), Verb::Apply, Kind::Namespace, &Failure::NotFound);
        is(
            &refused("patch"),
            Verb::Apply,
            Kind::Namespace,
            &Failure::Forbidden(text("patch")),
        );
    }

    #[test]
    fn overload_is_tried_again_when_the_server_says() {
        let details = json!({"retryAfterSeconds": 3});
        let expected = Failure::Unavailable {
            message: "busy".to_owned(),
            retry_after_milliseconds: Some(3_000),
        };
        for (code, reason) in [
            (429, "TooManyRequests"),
            (500, "ServerTimeout"),
            (503, "ServiceUnavailable"),
        ] {
            is(
                &status(code, reason, "busy", &details),
                Verb::Apply,
                Kind::EndpointSlice,
                &expected,
            );
        }
        let webhook = status(500, "InternalError", "failed calling webhook", &Value::Null);
        is(
            &webhook,
            Verb::Create,
            Kind::Service,
            &unavailable("failed calling webhook".to_owned()),
        );
    }

    #[test]
    fn expired_token_is_tried_again() {
        let expired = status(401, "Unauthorized", "Unauthorized", &Value::Null);
        is(
            &expired,
            Verb::Apply,
            Kind::Service,
            &unavailable("Unauthorized".to_owned()),
        );
    }

    #[test]
    fn broken_connection_is_explained_with_its_cause() {
        let cause = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "connection refused");
        let error = Error::Service(Box::new(cause));
        let Failure::Unavailable { message, .. } = classify(&error, Verb::Create, Kind::Service) else {
            panic!("not unavailable");
        };
        assert!(message.contains("connection refused"), "{message}");
    }
}
