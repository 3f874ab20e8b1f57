//! The templates against what the seed wrote, and against what a hub should not be able to write.

mod bad;
mod objects;
mod parameters;

use remote_istio::wire::v1;
use serde_json::{Value, json};

use super::super::tests::settings;
use super::*;

fn ready() -> Facts {
    Facts {
        trust: super::super::Trust::Ready {
            hash: "abc".to_owned(),
            own: true,
        },
        ..Facts::default()
    }
}

fn citadel(workload: v1::Workload) -> Value {
    let (settings, facts) = (settings(), ready());
    let templates = Templates {
        settings: &settings,
        facts: &facts,
        mesh: None,
    };
    let objects = templates.citadel(&v1::Citadel {
        workload: Some(workload),
    });
    json_of(&objects[0])
}

fn injector(injector: &v1::SidecarInjector, mesh: v1::MeshConfig) -> Vec<Value> {
    let (settings, facts) = (settings(), Facts::default());
    let templates = Templates {
        settings: &settings,
        facts: &facts,
        mesh: Some(&mesh),
    };
    templates.injector(injector).iter().map(json_of).collect()
}

fn json_of(resource: &Resource) -> Value {
    let value = match resource {
        Resource::Deployment(deployment) => serde_json::to_value(deployment),
        Resource::Service(service) => serde_json::to_value(service),
        Resource::ConfigMap(config_map) => serde_json::to_value(config_map),
        other => panic!("{other:?}"),
    };
    value.unwrap()
}

/// The injection template as text, and as the pods that the injector makes of it: `holds` says which conditions hold,
/// and every other action stands there as it is.
fn template_of(injector: &v1::SidecarInjector, holds: impl Fn(&str) -> bool) -> (String, Value) {
    let config: Value = serde_saphyr::from_str(&template::config(injector)).expect("the configuration is YAML");
    assert_eq!(config["policy"], "enabled");
    let text = config["template"].as_str().unwrap().to_owned();
    let mut conditions: Vec<bool> = Vec::new();
    let mut pods = String::new();
    for line in text.lines() {
        let action = line
            .trim()
            .strip_prefix("[[ ")
            .and_then(|line| line.strip_suffix(" ]]"));
        match action {
            Some(action) if action.starts_with("if ") => conditions.push(holds(action)),
            Some("else") => {
                let last = conditions.last_mut().expect("else stands within if");
                *last = !*last;
            }
            Some("end") => {
                conditions.pop().expect("end ends an if");
            }
            _ if conditions.iter().all(|holds| *holds) => {
                // A number of the probe is no text to YAML, and an action is no number.
                let bare = line.replace(": [[", ": \"[[");
                let end = if bare == line { "" } else { "\"" };
                pods.extend([bare.as_str(), end, "\n"]);
            }
            _ => {}
        }
    }
    assert_eq!(conditions, Vec::<bool>::new(), "every if has its end");
    let value = serde_saphyr::from_str(&pods).unwrap_or_else(|error| panic!("{error}\n{pods}"));
    (text, value)
}
