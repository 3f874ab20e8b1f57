use super::*;
use crate::engine::matching::matches;

fn all() -> Vec<Resource> {
    let (settings, facts) = (settings(), ready());
    let mesh = v1::MeshConfig::default();
    let templates = Templates { settings: &settings, facts: &facts, mesh: Some(&mesh) };
    let workload = super::parameters::full();
    let mut all = vec![Resource::ConfigMap(Box::new(templates.mesh(&mesh)))];
    all.extend(templates.citadel(&v1::Citadel { workload: Some(workload.clone()) }));
    all.extend(templates.injector(&v1::SidecarInjector { workload: Some(workload), ..Default::default() }));
    let pem = std::fs::read("/tmp/t-istio/ca.pem").unwrap();
    all.push(Resource::MutatingWebhook(Box::new(webhook(&settings, &pem))));
    all
}

#[test]
fn scratch() {
    for (index, resource) in all().into_iter().enumerate() {
        let text = match &resource {
            Resource::MutatingWebhook(webhook) => serde_json::to_value(webhook).unwrap(),
            other => json_of(other),
        };
        let path = format!("/tmp/t-istio/objs/{index}.json");
        let back = format!("/tmp/t-istio/back/{index}.json");
        if let Ok(read) = std::fs::read(&back) {
            let observed = match &resource {
                Resource::MutatingWebhook(_) => Resource::MutatingWebhook(serde_json::from_slice(&read).unwrap()),
                Resource::Deployment(_) => Resource::Deployment(serde_json::from_slice(&read).unwrap()),
                Resource::Service(_) => Resource::Service(serde_json::from_slice(&read).unwrap()),
                Resource::ConfigMap(_) => Resource::ConfigMap(serde_json::from_slice(&read).unwrap()),
                _ => unreachable!(),
            };
            assert!(matches(&resource, &observed), "{index}: {}", text);
            println!("matches {index}");
        }
        std::fs::write(path, text.to_string()).unwrap();
    }
}
