//! Objects by kind name, as JSON: tests hold the API to what is written there, not to our own types.

use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::Value;

/// The API of a kind that the tests touch, within one namespace.
pub fn api(client: &Client, kind: &str, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &resource(kind))
}

/// The API of a kind without namespaces.
pub fn cluster_api(client: &Client, kind: &str) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &resource(kind))
}

fn resource(kind: &str) -> ApiResource {
    let (group, version, plural) = match kind {
        "RemoteIstio" => ("istio.banzaicloud.io", "v1beta1", "remoteistios"),
        "RemoteIdentity" => ("istio.banzaicloud.io", "v1beta1", "remoteidentities"),
        "JoinToken" => ("istio.banzaicloud.io", "v1beta1", "jointokens"),
        "Event" => ("events.k8s.io", "v1", "events"),
        "Lease" => ("coordination.k8s.io", "v1", "leases"),
        "Secret" => ("", "v1", "secrets"),
        "EndpointSlice" => ("discovery.k8s.io", "v1", "endpointslices"),
        "Role" => ("rbac.authorization.k8s.io", "v1", "roles"),
        "ClusterRole" => ("rbac.authorization.k8s.io", "v1", "clusterroles"),
        "RoleBinding" => ("rbac.authorization.k8s.io", "v1", "rolebindings"),
        "ClusterRoleBinding" => ("rbac.authorization.k8s.io", "v1", "clusterrolebindings"),
        "MutatingWebhookConfiguration" => ("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations"),
        "ValidatingAdmissionPolicy" => ("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies"),
        "ValidatingAdmissionPolicyBinding" => (
            "admissionregistration.k8s.io",
            "v1",
            "validatingadmissionpolicybindings",
        ),
        "Deployment" => ("apps", "v1", "deployments"),
        "CustomResourceDefinition" => ("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
        "ResourceQuota" => ("", "v1", "resourcequotas"),
        "ServiceAccount" => ("", "v1", "serviceaccounts"),
        "Endpoints" => ("", "v1", "endpoints"),
        "Service" => ("", "v1", "services"),
        "ConfigMap" => ("", "v1", "configmaps"),
        "Namespace" => ("", "v1", "namespaces"),
        "Pod" => ("", "v1", "pods"),
        other => panic!("the tests do not know the kind {other}"),
    };
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

/// An object of that name with these fields.
pub fn object(kind: &str, name: &str, fields: Value) -> DynamicObject {
    let mut object = fields;
    object["apiVersion"] = resource(kind).api_version.into();
    object["kind"] = kind.into();
    object["metadata"]["name"] = name.into();
    serde_json::from_value(object).expect("an object")
}

/// As it would be printed.
pub fn json(object: &DynamicObject) -> Value {
    serde_json::to_value(object).expect("objects are JSON")
}
