//! What this remote lets the hub ask for.

use remote_istio::lane::NackReason;
use remote_istio::model::{Key, Object};

use super::{Settings, components};

/// Whether the hub may ask for this object, and the agent can make sense of it.
///
/// # Errors
/// The reason and the words to refuse it with.
pub fn admit(settings: &Settings, key: &Key, object: &Object) -> Result<(), (NackReason, String)> {
    judge(settings, key, object).map_err(|detail| (NackReason::Policy, detail))?;
    components::check(&object.body).map_err(|detail| (NackReason::Invalid, detail))
}

/// Whether the remote's policy allows this object.
///
/// # Errors
/// The words to refuse it with: the rule that is broken, and what to change where.
pub fn judge(settings: &Settings, key: &Key, object: &Object) -> Result<(), String> {
    let judged = settings.policy.judge(&settings.namespace, key, &object.body);
    judged.map_err(|refusal| refusal.to_string())?;
    if serves(settings, key) {
        return Ok(());
    }
    Err(format!(
        "namespace-not-allowed: namespace {} is not watched by the agent: add it to its flag --service-namespaces",
        key.namespace()
    ))
}

/// Whether a key lies where this agent watches.
#[must_use]
pub fn serves(settings: &Settings, key: &Key) -> bool {
    match key {
        Key::Injection { .. } => true,
        Key::Component { namespace, .. } => *namespace == settings.namespace,
        Key::Endpoints { namespace, .. } | Key::Service { namespace, .. } => {
            settings.service_namespaces.contains(namespace)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use remote_istio::model::{Body, Component, Endpoint, EndpointSet, ServiceIntent};
    use remote_istio::policy::Policy;
    use remote_istio::wire::v1;

    use super::super::tests::settings;
    use super::*;

    fn service() -> Object {
        Object::new(1, None, Body::Service(ServiceIntent::default()))
    }

    fn endpoints(address: &str) -> Object {
        let endpoints = BTreeMap::from([(address.parse().unwrap(), Endpoint::ready())]);
        Object::new(
            1,
            None,
            Body::Endpoints(EndpointSet {
                endpoints,
                port_sets: vec![],
            }),
        )
    }

    fn refused(settings: &Settings, key: &Key, object: &Object) -> String {
        let (reason, detail) = admit(settings, key, object).unwrap_err();
        assert_eq!(reason, NackReason::Policy, "{detail}");
        detail
    }

    #[test]
    fn what_the_policy_refuses_is_refused_with_its_rule_and_its_remedy() {
        let settings = settings();
        assert_eq!(admit(&settings, &Key::service("istio-system", "a"), &service()), Ok(()));
        let detail = refused(&settings, &Key::service("default", "a"), &service());
        assert!(detail.starts_with("namespace-not-allowed: "), "{detail}");
        assert!(detail.contains("--service-namespaces"), "{detail}");
        let detail = refused(
            &settings,
            &Key::endpoints("istio-system", "a"),
            &endpoints("169.254.169.254"),
        );
        assert!(detail.starts_with("address-link-local: "), "{detail}");
    }

    #[test]
    fn namespace_that_is_not_watched_is_refused_whatever_the_policy_says() {
        let mut settings = settings();
        let policy = Policy {
            namespaces: ["istio-system".to_owned(), "shop".to_owned()].into(),
            ..Policy::default()
        };
        settings.policy = Arc::new(policy);
        let detail = refused(&settings, &Key::service("shop", "a"), &service());
        assert!(detail.contains("--service-namespaces"), "{detail}");
    }

    #[test]
    fn component_the_agent_cannot_make_sense_of_is_invalid_and_not_a_matter_of_policy() {
        let citadel = v1::Citadel {
            workload: Some(v1::Workload {
                image_pull_policy: "Sometimes".to_owned(),
                ..v1::Workload::default()
            }),
        };
        let object = Object::new(1, None, Body::Citadel(Box::new(citadel)));
        let key = Key::component(Component::Citadel, "istio-system");
        let refused = admit(&settings(), &key, &object).map_err(|(reason, _)| reason);
        assert_eq!(refused, Err(NackReason::Invalid));
    }
}
