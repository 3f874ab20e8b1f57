//! Central as the commands see it: reads, and changes that are guarded by what was read.

#[cfg(test)]
pub(super) mod tests;

use std::fmt::Debug;

use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, ListParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::CommandError;
use super::published::Published;
use crate::api_error;
use crate::authority::LINK_CONFIG_MAP;
use crate::crd::{JoinToken, RemoteIdentity, RemoteIstio};

/// Field manager of what the commands write.
const FIELD_MANAGER: &str = "remote-istio-hub-command";

/// How often a change is tried when others write the same object.
const ATTEMPTS: u32 = 5;

/// Objects in one page of a list.
const PAGE: u32 = 500;

/// The hub's namespace on central, at one moment.
pub(super) struct Central {
    client: Client,
    pub(super) namespace: String,
    /// By the API server's clock, which also dates what is made: this machine's may be off.
    pub(super) now: Timestamp,
}

/// What of an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All but the status.
    Whole,
    /// The status alone.
    Status,
}

impl Central {
    /// `now` in whole seconds, as objects keep it.
    pub(super) fn new(client: Client, namespace: &str, now: Timestamp) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
            now: Timestamp::from_second(now.as_second()).unwrap_or(now),
        }
    }

    /// As of now, as the API server's clock has it: it dates its answer to who asks who it is, which anybody may.
    pub(super) async fn at_servers_time(client: Client, namespace: &str) -> Result<Self, CommandError> {
        let attempted = "central cannot be asked for its time";
        let review = review(&client).await;
        let review = review.map_err(|error| CommandError::of_object(attempted, error))?;
        let Some(Time(now)) = review.metadata.creation_timestamp else {
            return Err(CommandError::Refused(format!(
                "{attempted}: its API server does not date a SelfSubjectReview; Kubernetes 1.33 or later is needed"
            )));
        };
        Ok(Self::new(client, namespace, now))
    }

    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(super) async fn tokens(&self) -> Result<Vec<JoinToken>, CommandError> {
        self.all("the tokens cannot be listed").await
    }

    pub(super) async fn identities(&self) -> Result<Vec<RemoteIdentity>, CommandError> {
        self.all("the identities cannot be listed").await
    }

    pub(super) async fn all<K>(&self, attempted: &str) -> Result<Vec<K>, CommandError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let api = self.api::<K>();
        let mut parameters = ListParams::default().limit(PAGE);
        let mut all = Vec::new();
        loop {
            let page = api.list(&parameters).await;
            let page = page.map_err(|error| CommandError::of_collection(attempted, error))?;
            all.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters = parameters.continue_token(&token),
                None => return Ok(all),
            }
        }
    }

    /// Asked by a list, for that is what the hub's own account may do.
    pub(super) async fn has_remote(&self, name: &str) -> Result<bool, CommandError> {
        let parameters = ListParams::default().fields(&format!("metadata.name={name}"));
        let listed = self.api::<RemoteIstio>().list_metadata(&parameters).await;
        let attempted = || format!("RemoteIstio {name} cannot be looked up");
        let listed = listed.map_err(|error| CommandError::of_collection(attempted(), error))?;
        Ok(!listed.items.is_empty())
    }

    pub(super) async fn identity(&self, name: &str) -> Result<Option<RemoteIdentity>, CommandError> {
        let attempted = || format!("identity {name} cannot be read");
        let found = self.api().get_opt(name).await;
        found.map_err(|error| CommandError::of_object(attempted(), error))
    }

    /// What the hub says of its link.
    pub(super) async fn published(&self) -> Result<Published, CommandError> {
        let found = self.api::<ConfigMap>().get_opt(LINK_CONFIG_MAP).await;
        let attempted = || format!("ConfigMap {LINK_CONFIG_MAP} cannot be read");
        let found = found.map_err(|error| CommandError::of_object(attempted(), error))?;
        let Some(found) = found else {
            return Err(CommandError::Refused(format!(
                "no hub runs in namespace {}, or it runs with --link-ca files, where certificates come from elsewhere: \
                 start the hub first, or name its namespace with --namespace",
                self.namespace
            )));
        };
        let read = Published::read(&found.data.unwrap_or_default(), &self.namespace);
        read.map_err(|error| CommandError::Refused(error.to_string()))
    }

    /// Who runs the command, as the API server knows them; empty where it does not say. For people only, so that a
    /// failure is none of the command's.
    pub(super) async fn whoami(&self) -> String {
        let user = review(&self.client)
            .await
            .ok()
            .and_then(|answer| answer.status?.user_info?.username);
        user.unwrap_or_default().chars().take(253).collect()
    }

    /// Makes an object and returns it; nothing if one of its name is there.
    pub(super) async fn create<K>(&self, object: &K, attempted: &str) -> Result<Option<K>, CommandError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        match self.api::<K>().create(&post(), object).await {
            Ok(made) => Ok(Some(made)),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(None),
            Err(error) => Err(CommandError::of_collection(attempted, error)),
        }
    }

    /// Reads an object, lets `decide` change it, and writes it over what was read; when another writer came first,
    /// anew. Nothing is written where `decide` changes nothing. Returns nothing if there is no such object.
    pub(super) async fn change<K, T>(
        &self,
        name: &str,
        part: Part,
        attempted: &str,
        decide: impl Fn(&mut K) -> Result<T, CommandError>,
    ) -> Result<Option<T>, CommandError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + PartialEq
            + Serialize,
    {
        let api = self.api::<K>();
        let failed = |error| CommandError::of_object(attempted, error);
        for _ in 0..ATTEMPTS {
            let Some(read) = api.get_opt(name).await.map_err(failed)? else {
                return Ok(None);
            };
            let mut changed = read.clone();
            let decided = decide(&mut changed)?;
            if changed == read {
                return Ok(Some(decided));
            }
            debug_assert_eq!(changed.resource_version(), read.resource_version());
            let written = match part {
                Part::Whole => api.replace(name, &post(), &changed).await,
                Part::Status => api.replace_status(name, &post(), &changed).await,
            };
            match written {
                Ok(_) => return Ok(Some(decided)),
                Err(error) if api_error::code(&error) == 409 => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(CommandError::Contended {
            attempted: attempted.to_owned(),
        })
    }
}

async fn review(client: &Client) -> kube::Result<SelfSubjectReview> {
    let reviews = Api::<SelfSubjectReview>::all(client.clone());
    reviews
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await
}

fn post() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}
