//! Components and rules of a spec as the parameters that travel: each field has an effect or a problem.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message as _;
use remote_istio::limits;
use remote_istio::model::{Body, Component, Key, Object, is_dns_subdomain};
use remote_istio::wire::v1;

use super::Problem;
use super::notation;
use super::placement;
use crate::crd::{
    Component as Block, LOST_AFTER_DEFAULT, LostAction, NODE_SELECTOR_MAX, PULL_SECRETS_MAX, Quantity, REPLICAS_MAX,
    RESOURCE_NAMES, RemoteIstioSpec, Resources, TOLERATIONS_MAX,
};

/// One component, or the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ComponentWanted {
    pub(super) key: Key,
    /// `None`: it cannot be read: what was read last goes on.
    pub(super) object: Option<Arc<Object>>,
}

/// Collects what cannot be carried out.
#[derive(Debug, Default)]
pub(super) struct Reader {
    problems: Vec<Problem>,
}

impl Reader {
    /// Names a field that cannot be carried out.
    pub(super) fn refuse(&mut self, reason: &'static str, field: &str, message: impl Into<String>) {
        self.problems.push(Problem {
            reason,
            field: field.to_owned(),
            message: message.into(),
            fatal: true,
        });
    }

    /// The value, or what refuses it under the name of the field.
    fn take<T: Default>(&mut self, reason: &'static str, field: &str, read: Result<T, String>) -> T {
        read.unwrap_or_else(|message| {
            self.refuse(reason, field, message);
            T::default()
        })
    }
}

/// Everything that there is at most one of in a remote, but for trust, which is central's and not the spec's.
pub(super) fn read(spec: &RemoteIstioSpec, namespace: &str, problems: &mut Vec<Problem>) -> Vec<ComponentWanted> {
    let mut wanted = Vec::new();
    let mut add = |component, read: &dyn Fn(&mut Reader) -> Option<Body>| {
        let mut reader = Reader::default();
        let body = read(&mut reader);
        if body.is_some() || !reader.problems.is_empty() {
            let readable = body.filter(|_| reader.problems.is_empty());
            wanted.push(ComponentWanted {
                key: Key::component(component, namespace),
                object: readable.map(|body| Arc::new(Object::new(0, None, body))),
            });
        }
        problems.append(&mut reader.problems);
    };
    add(Component::Rules, &|reader| rules(spec, reader).map(Body::Rules));
    if spec.citadel.is_some() || spec.sidecar_injector.is_some() {
        let mesh = v1::MeshConfig {
            control_plane_security: spec.control_plane_security_enabled.unwrap_or_default(),
        };
        add(Component::Mesh, &|_| Some(Body::Mesh(mesh)));
    }
    if let Some(block) = &spec.citadel {
        add(Component::Citadel, &|reader| {
            Some(Body::Citadel(Box::new(citadel(block, reader))))
        });
    }
    if let Some(block) = &spec.sidecar_injector {
        add(Component::Injector, &|reader| {
            Some(Body::Injector(Box::new(injector(spec, block, reader))))
        });
    }
    problems.extend(without_effect(spec));
    wanted
}

fn citadel(block: &Block, reader: &mut Reader) -> v1::Citadel {
    let citadel = v1::Citadel {
        workload: Some(workload(block, "spec.citadel", reader)),
    };
    bounded(citadel.encoded_len(), "spec.citadel", reader);
    citadel
}

fn injector(spec: &RemoteIstioSpec, block: &Block, reader: &mut Reader) -> v1::SidecarInjector {
    let field = "spec.sidecarInjector";
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let included = notation::included_ranges(&text(&spec.include_ip_ranges));
    let excluded = notation::ranges(&text(&spec.exclude_ip_ranges));
    let injector = v1::SidecarInjector {
        workload: Some(workload(block, field, reader)),
        include_ip_ranges: reader.take("InvalidRanges", "spec.includeIPRanges", included),
        exclude_ip_ranges: reader.take("InvalidRanges", "spec.excludeIPRanges", excluded),
        proxy: proxy(spec, reader),
    };
    bounded(injector.encoded_len(), field, reader);
    injector
}

/// Nothing where it says nothing.
fn proxy(spec: &RemoteIstioSpec, reader: &mut Reader) -> Option<v1::Proxy> {
    let proxy = spec.proxy.clone().unwrap_or_default();
    let init = spec.proxy_init.clone().unwrap_or_default();
    let pull_policy = proxy.image_pull_policy;
    let read = v1::Proxy {
        image: image(proxy.image.as_deref(), "spec.proxy", reader),
        init_image: image(init.image.as_deref(), "spec.proxyInit", reader),
        image_pull_policy: pull_policy.map_or_else(String::new, |policy| policy.as_str().to_owned()),
        privileged: proxy.privileged.unwrap_or_default(),
        resources: resources(proxy.resources.as_ref(), "spec.proxy.resources", reader),
    };
    (read != v1::Proxy::default()).then_some(read)
}

fn workload(block: &Block, field: &str, reader: &mut Reader) -> v1::Workload {
    let pull_policy = block.image_pull_policy;
    let at = |name: &str| format!("{field}.{name}");
    at_most(
        block.image_pull_secrets.len(),
        PULL_SECRETS_MAX,
        &at("imagePullSecrets"),
        reader,
    );
    at_most(
        block.node_selector.len(),
        NODE_SELECTOR_MAX,
        &at("nodeSelector"),
        reader,
    );
    at_most(block.tolerations.len(), TOLERATIONS_MAX, &at("tolerations"), reader);
    let affinity = block.affinity.as_ref();
    v1::Workload {
        image: image(block.image.as_deref(), field, reader),
        replicas: block.replica_count.map(|count| {
            let read = u32::try_from(count).ok().filter(|count| *count <= REPLICAS_MAX);
            let read = read.ok_or_else(|| format!("{count} is no number of replicas: use 0 to {REPLICAS_MAX}"));
            reader.take("InvalidReplicas", &at("replicaCount"), read)
        }),
        image_pull_policy: pull_policy.map_or_else(String::new, |policy| policy.as_str().to_owned()),
        image_pull_secrets: pull_secrets(block, &at("imagePullSecrets"), reader),
        resources: resources(block.resources.as_ref(), &at("resources"), reader),
        node_selector: block.node_selector.clone(),
        tolerations: placement::tolerations(&block.tolerations, &at("tolerations"), reader),
        affinity: affinity.and_then(|affinity| placement::affinity(affinity, &at("affinity"), reader)),
    }
}

fn image(image: Option<&str>, field: &str, reader: &mut Reader) -> String {
    let read = notation::image(image.unwrap_or_default());
    reader.take("InvalidImage", &format!("{field}.image"), read)
}

fn pull_secrets(block: &Block, field: &str, reader: &mut Reader) -> Vec<String> {
    let mut names = Vec::new();
    for (index, secret) in block.image_pull_secrets.iter().enumerate() {
        if is_dns_subdomain(&secret.name) {
            names.push(secret.name.clone());
        } else {
            let message = "is no name of a Secret: use lower case letters, digits, '-' and '.'";
            reader.refuse("InvalidName", &format!("{field}[{index}].name"), message);
        }
    }
    names
}

/// Nothing where they say nothing.
fn resources(resources: Option<&Resources>, field: &str, reader: &mut Reader) -> Option<v1::Resources> {
    let resources = resources?;
    if !resources.claims.is_empty() {
        let message = "cannot be carried out: remove them";
        reader.refuse("UnsupportedField", &format!("{field}.claims"), message);
    }
    let mut read = |amounts: &BTreeMap<String, Quantity>, list: &str| {
        let mut taken = BTreeMap::new();
        for (name, amount) in amounts {
            let field = format!("{field}.{list}[{name}]");
            if !RESOURCE_NAMES.contains(&name.as_str()) {
                let message = format!("cannot be carried out: use {}", RESOURCE_NAMES.join(", "));
                reader.refuse("UnsupportedField", &field, message);
                continue;
            }
            let amount = match amount {
                Quantity::Number(number) => notation::quantity(&number.to_string()),
                Quantity::Text(text) => notation::quantity(text),
            };
            taken.insert(name.clone(), reader.take("InvalidQuantity", &field, amount));
        }
        taken
    };
    let read = v1::Resources {
        requests: read(&resources.requests, "requests"),
        limits: read(&resources.limits, "limits"),
    };
    (read != v1::Resources::default()).then_some(read)
}

/// Nothing where the agent is to keep what it has, which it does by itself.
fn rules(spec: &RemoteIstioSpec, reader: &mut Reader) -> Option<v1::Rules> {
    let lost = spec.when_hub_lost.as_ref()?;
    let after = notation::lost_after(lost.after.as_deref().unwrap_or(LOST_AFTER_DEFAULT));
    let stale_after_seconds = reader.take("InvalidDuration", "spec.whenHubLost.after", after);
    let action = match lost.action {
        LostAction::Keep => return None,
        LostAction::NotReady => v1::StaleAction::NotReady,
        LostAction::Withdraw => v1::StaleAction::Withdraw,
    };
    Some(v1::Rules {
        stale_action: action.into(),
        stale_after_seconds,
    })
}

/// Fields that ask for something which a block that is not there would do.
fn without_effect(spec: &RemoteIstioSpec) -> Vec<Problem> {
    let text =
        |value: &Option<String>, neutral: &[&str]| value.as_deref().is_some_and(|v| !neutral.contains(&v.trim()));
    let no_injector = spec.sidecar_injector.is_none();
    let nothing = no_injector && spec.citadel.is_none();
    let secure = spec.control_plane_security_enabled == Some(true);
    let injected = "spec.sidecarInjector";
    let either = "spec.sidecarInjector or spec.citadel";
    let fields = [
        (
            "spec.includeIPRanges",
            no_injector && text(&spec.include_ip_ranges, &["", "*"]),
            injected,
        ),
        (
            "spec.excludeIPRanges",
            no_injector && text(&spec.exclude_ip_ranges, &[""]),
            injected,
        ),
        ("spec.controlPlaneSecurityEnabled", nothing && secure, either),
        ("spec.proxy", no_injector && spec.proxy.is_some(), injected),
        ("spec.proxyInit", no_injector && spec.proxy_init.is_some(), injected),
    ];
    let mut reader = Reader::default();
    for (field, is_idle, block) in fields {
        if is_idle {
            let message = format!("has no effect without {block}: add it, or remove this field");
            reader.refuse("NoEffect", field, message);
        }
    }
    reader.problems
}

fn at_most(count: usize, most: usize, field: &str, reader: &mut Reader) {
    if count > most {
        reader.refuse(
            "TooMany",
            field,
            format!("{count} entries, of at most {most}: remove some"),
        );
    }
}

/// The agent refuses more.
fn bounded(bytes: usize, field: &str, reader: &mut Reader) {
    let most = limits::COMPONENT_MAX_BYTES;
    if bytes > most {
        reader.refuse(
            "TooLarge",
            field,
            format!("{bytes} bytes, of at most {most}: shorten it"),
        );
    }
}
