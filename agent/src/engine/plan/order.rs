//! What a component waits for: other components, and what the tasks beside the engine found out. Pure.

use remote_istio::model::{ApplyState, Component};

use super::super::progress::Fault;
use super::super::{Facts, Trust};

/// How far the other components are, as far as the order asks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// The mesh configuration stands as accepted; nothing while none is held.
    pub mesh: Option<bool>,
    /// Something that reads the mesh configuration is still there.
    pub readers: bool,
    /// Citadel is still there.
    pub citadel: bool,
}

/// What stands in the way of a component's objects, before anything of them is written.
#[must_use]
pub fn gate(component: Component, others: Others, facts: &Facts) -> Option<Fault> {
    match component {
        Component::Rules | Component::Mesh => None,
        Component::Trust => trust(facts),
        Component::Injector => configuration(others).or_else(|| role(component, facts)),
        Component::Citadel => configuration(others)
            .or_else(|| role(component, facts))
            .or_else(|| trust(facts)),
    }
}

/// What the end of a component waits for.
#[must_use]
pub fn gate_of_removal(component: Component, orphaned: bool, others: Others, facts: &Facts) -> Option<Fault> {
    match component {
        Component::Mesh if others.readers && !orphaned => Some(not_ready(
            "the mesh configuration goes after the components that read it",
        )),
        Component::Trust if others.citadel && !orphaned => Some(not_ready(
            "the remote's intermediate CA goes after Citadel, which signs with it",
        )),
        Component::Trust => match &facts.trust {
            Trust::Unknown => Some(not_ready(
                "it is being found out whether the Secret cacerts is this agent's",
            )),
            Trust::Ready { own: true, .. } => Some(not_ready("the Secret cacerts of this agent is being let go")),
            Trust::Ready { own: false, .. } | Trust::Missing(_) => None,
        },
        _ => None,
    }
}

fn configuration(others: Others) -> Option<Fault> {
    match others.mesh {
        Some(true) => None,
        Some(false) => Some(not_ready("waits for the mesh configuration, which is not in place yet")),
        None => Some(not_ready(
            "waits for the mesh configuration, which the hub has not sent",
        )),
    }
}

fn role(component: Component, facts: &Facts) -> Option<Fault> {
    match facts.roles.get(&component) {
        Some(Ok(())) => None,
        Some(Err(missing)) => Some(Fault::new(ApplyState::Forbidden, missing)),
        None => Some(not_ready("its account, role and binding are being looked for")),
    }
}

fn trust(facts: &Facts) -> Option<Fault> {
    match &facts.trust {
        Trust::Ready { .. } => None,
        Trust::Missing(why) => Some(not_ready(why)),
        Trust::Unknown => Some(not_ready("the Secret cacerts is being looked for")),
    }
}

pub(super) fn not_ready(detail: &str) -> Fault {
    Fault::new(ApplyState::NotReady, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> Facts {
        Facts {
            roles: [(Component::Citadel, Ok(())), (Component::Injector, Ok(()))].into(),
            trust: Trust::Ready {
                hash: "h".to_owned(),
                own: true,
            },
            ..Facts::default()
        }
    }

    const MESH: Others = Others {
        mesh: Some(true),
        readers: true,
        citadel: true,
    };

    fn detail(fault: Option<Fault>) -> String {
        fault.map(|fault| fault.detail).unwrap_or_default()
    }

    #[test]
    fn citadel_waits_for_configuration_then_role_then_trust() {
        let gate_of = |others, facts: &Facts| detail(gate(Component::Citadel, others, facts));
        assert!(gate_of(Others::default(), &ready()).contains("has not sent"));
        let open = Others {
            mesh: Some(false),
            ..MESH
        };
        assert!(gate_of(open, &ready()).contains("not in place"));
        assert!(gate_of(MESH, &Facts::default()).contains("account"));
        let untrusted = Facts {
            trust: Trust::Missing("ask".to_owned()),
            ..ready()
        };
        assert_eq!(gate_of(MESH, &untrusted), "ask");
        assert_eq!(gate_of(MESH, &ready()), "");
    }

    #[test]
    fn injector_waits_for_no_trust() {
        let facts = Facts {
            trust: Trust::Unknown,
            ..ready()
        };
        assert_eq!(gate(Component::Injector, MESH, &facts), None);
    }

    #[test]
    fn missing_role_is_forbidden_in_the_words_of_the_look_up() {
        let facts = Facts {
            roles: [(Component::Injector, Err("set it".to_owned()))].into(),
            ..ready()
        };
        let expected = Fault::new(ApplyState::Forbidden, "set it");
        assert_eq!(gate(Component::Injector, MESH, &facts), Some(expected));
    }

    #[test]
    fn mesh_goes_after_its_readers_and_trust_after_citadel_and_its_secret() {
        let alone = Others::default();
        assert!(gate_of_removal(Component::Mesh, false, MESH, &ready()).is_some());
        assert_eq!(gate_of_removal(Component::Mesh, true, MESH, &ready()), None);
        assert_eq!(gate_of_removal(Component::Mesh, false, alone, &ready()), None);
        let gone = Facts {
            trust: Trust::Missing(String::new()),
            ..ready()
        };
        assert!(gate_of_removal(Component::Trust, false, MESH, &gone).is_some());
        assert!(gate_of_removal(Component::Trust, false, alone, &ready()).is_some());
        assert!(gate_of_removal(Component::Trust, true, alone, &ready()).is_some());
        assert_eq!(gate_of_removal(Component::Trust, false, alone, &gone), None);
    }
}
