//! What the wire cannot even say: no message of it holds a manifest, a role, an account, or a key.

use std::collections::BTreeSet;

use prost::Message as _;
use prost_types::FileDescriptorSet;

/// Every field of every message, as `Message.field: type`.
fn fields() -> BTreeSet<String> {
    let descriptors = FileDescriptorSet::decode(remote_istio::wire::DESCRIPTORS).expect("descriptors");
    let mut fields = BTreeSet::new();
    for file in &descriptors.file {
        for message in &file.message_type {
            for field in &message.field {
                let kind = match field.type_name() {
                    "" => format!("{:?}", field.r#type()).to_lowercase(),
                    name => name.trim_start_matches('.').to_owned(),
                };
                fields.insert(format!("{}.{}: {kind}", message.name(), field.name()));
            }
        }
    }
    fields
}

/// The words of a name: `ca_bundle` has `ca` and `bundle`.
fn words(field: &str) -> Vec<String> {
    let name = field.split(": ").next().unwrap_or_default();
    name.split(['.', '_']).map(str::to_lowercase).collect()
}

// Turns red when: a message gets a field that could carry one of these.
#[test]
fn no_field_is_called_after_a_role_an_account_a_manifest_or_a_private_key() {
    let refused = [
        "manifest",
        "yaml",
        "json",
        "role",
        "roles",
        "rolebinding",
        "clusterrole",
        "account",
        "subject",
        "secret",
        "private",
        "password",
        "kubeconfig",
        "credential",
        "credentials",
        "template",
        "webhook",
        "command",
        "args",
        "env",
        "volume",
        "volumes",
        "hostpath",
        "annotations",
        "capabilities",
        "webhooks",
        "serviceaccount",
        "crd",
        "owner",
        "sender",
    ];
    let named: Vec<String> = fields()
        .into_iter()
        .filter(|field| words(field).iter().any(|word| refused.contains(&word.as_str())))
        .collect();
    // Names of Secrets beside a component, from which the kubelet pulls an image.
    assert_eq!(named, Vec::<String>::new());
}

// Turns red when: a field of free bytes is added, where anything could be put.
#[test]
fn every_field_of_bytes_is_a_hash_a_certificate_or_a_request() {
    let bytes: Vec<String> = fields()
        .into_iter()
        .filter(|field| field.ends_with(": bytes"))
        .collect();
    let known = [
        "Ack.hash",
        "Delta.next_hash",
        "EndpointPatch.base",
        "Hello.trust_digest",
        "LaneState.hash",
        "MeshTrust.roots",
        "MeshTrust.signer",
        "Policy.digest",
        "SignRequest.request",
        "SignResponse.chain",
        "TrustKept.digest",
        "Applied.version",
        "Upsert.version",
    ];
    let unknown: Vec<&String> = bytes
        .iter()
        .filter(|field| !known.contains(&field.trim_end_matches(": bytes")))
        .collect();
    let identity: Vec<&String> = unknown
        .into_iter()
        .filter(|field| {
            let message = field.split('.').next().unwrap_or_default();
            ![
                "Issued",
                "JoinRequest",
                "JoinResponse",
                "Pending",
                "RecoverRequest",
                "RenewRequest",
                "Trust",
            ]
            .contains(&message)
        })
        .collect();
    assert_eq!(identity, Vec::<&String>::new());
}

// Turns red when: an upsert can carry another kind of object.
#[test]
fn upsert_has_nine_kinds_and_no_other() {
    let kinds: BTreeSet<String> = fields()
        .into_iter()
        .filter_map(|field| {
            field
                .strip_prefix("Upsert.")?
                .split_once(": remoteistio.v1.")
                .map(|(_, kind)| kind.to_owned())
        })
        .collect();
    let expected = [
        "Citadel",
        "EndpointPatch",
        "EndpointSet",
        "InjectionNamespace",
        "MeshConfig",
        "MeshTrust",
        "Rules",
        "Service",
        "SidecarInjector",
    ];
    assert_eq!(kinds, BTreeSet::from(expected.map(String::from)));
}
