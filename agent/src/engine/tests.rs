use super::*;

pub(super) fn settings() -> Settings {
    Settings {
        trust_domain: "remote-istio.local".to_owned(),
        remote: RemoteName::new("remote-1").unwrap(),
        namespace: "istio-system".to_owned(),
        service_namespaces: ["istio-system".to_owned()].into(),
        endpoints_objects: true,
        release: "1".to_owned(),
    }
}
