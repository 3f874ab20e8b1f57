//! Where remotes find the hub: as its flags say, or as the load balancer of its Service says.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::Api;
use kube::api::ListParams;
use kube::runtime::watcher::{self, Event, watcher};
use remote_istio::limits;
use remote_istio::process::Backoff;
use remote_istio::transport::HubAddress;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::secret::CALL_DEADLINE;
use super::{Authority, LINK_CONFIG_MAP, PublicAddresses, Settings};
use crate::api_error;

/// Name of the Service's port that leads to the sync port.
const SYNC_PORT: &str = "sync";

/// Name of the Service's port that leads to the enrolment port.
const ENROLMENT_PORT: &str = "enrolment";

/// A watch on which nothing came for so long is begun anew, for it may be dead.
const SILENCE_DEADLINE: Duration = Duration::from_mins(5);

/// Between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// What a Service of type `LoadBalancer` offers: each address of its load balancer with each of the two ports. A name
/// counts before the address that stands beside it. Nothing where there is no load balancer yet.
pub(super) fn offered(service: &Service) -> PublicAddresses {
    let ingress = service
        .status
        .iter()
        .filter_map(|status| status.load_balancer.as_ref()?.ingress.as_ref())
        .flatten();
    let hosts: Vec<&str> = ingress
        .filter_map(|ingress| {
            let name = ingress.hostname.as_deref().filter(|name| !name.is_empty());
            name.or(ingress.ip.as_deref()).filter(|host| !host.is_empty())
        })
        .collect();
    let ports = || service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let with_port = |name: &str| -> Vec<HubAddress> {
        let port = ports().find(|port| port.name.as_deref() == Some(name));
        let addresses = port.into_iter().flat_map(|port| {
            let address = |host: &&str| bracketed(host, port.port).parse().ok();
            hosts.iter().filter_map(address).collect::<Vec<HubAddress>>()
        });
        addresses.take(limits::TRUST_ADDRESSES).collect()
    };
    PublicAddresses {
        hubs: with_port(SYNC_PORT),
        enrolments: with_port(ENROLMENT_PORT),
    }
}

fn bracketed(host: &str, port: i32) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// What was published last, by this hub or an earlier one.
fn published(data: &BTreeMap<String, String>) -> PublicAddresses {
    let list = |key: &str| -> Vec<HubAddress> {
        let texts = data.get(key).map(String::as_str).unwrap_or_default().split(',');
        texts.filter_map(|text| text.trim().parse().ok()).collect()
    };
    PublicAddresses {
        hubs: list("hubs"),
        enrolments: list("enrolments"),
    }
}

/// What is known at the start: by the Service, or as it was published last, or nothing.
pub(super) async fn known(client: &kube::Client, settings: &Settings, service: &str) -> PublicAddresses {
    let services: Api<Service> = Api::namespaced(client.clone(), &settings.namespace);
    // Asked by a list, for that is what the hub's account may do.
    let one = ListParams::default().fields(&format!("metadata.name={service}"));
    match answered(services.list(&one)).await {
        Ok(found) => {
            let offered = found.items.first().map(offered).unwrap_or_default();
            if offered.is_complete() {
                return offered;
            }
        }
        Err(error) => warn!(%service, %error, "the public Service cannot be read yet, going on"),
    }
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &settings.namespace);
    match answered(maps.get_opt(LINK_CONFIG_MAP)).await {
        Ok(found) => {
            let data = found.and_then(|map| map.data).unwrap_or_default();
            // Addresses of an earlier configuration are nobody's any more.
            let public = match data.get("public-service") {
                Some(named) if named == service => published(&data),
                _ => PublicAddresses::default(),
            };
            if !public.is_complete() {
                warn!(%service, "the public Service has no address yet: no token can be made before it has one");
                return PublicAddresses::default();
            }
            public
        }
        Err(error) => {
            warn!(config_map = LINK_CONFIG_MAP, %error, "what was published last cannot be read, going on");
            PublicAddresses::default()
        }
    }
}

async fn answered<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match timeout(CALL_DEADLINE, call).await {
        Ok(answer) => answer.map_err(|error| api_error::message(&error)),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

/// Follows the Service, if addresses are its. Never returns.
pub(super) async fn follow(authority: &Authority, client: &kube::Client) {
    let settings = &authority.settings;
    let Some(service) = &settings.public_service else {
        return std::future::pending().await;
    };
    let services: Api<Service> = Api::namespaced(client.clone(), &settings.namespace);
    let one = format!("metadata.name={service}");
    let mut backoff = Backoff::new(PAUSES, rand::random());
    let mut reason = String::new();
    let mut is_listed = false;
    loop {
        let mut events = pin!(watcher(services.clone(), watcher::Config::default().fields(&one)));
        while let Ok(Some(event)) = timeout(SILENCE_DEADLINE, events.next()).await {
            match event {
                Ok(Event::Init) => is_listed = false,
                Ok(Event::InitApply(found)) => {
                    is_listed = true;
                    authority.offered(service, &offered(&found));
                }
                Ok(Event::InitDone) => {
                    backoff.reset();
                    reason.clear();
                    if !is_listed {
                        authority.offered(service, &PublicAddresses::default());
                    }
                }
                Ok(Event::Apply(found)) => authority.offered(service, &offered(&found)),
                Ok(Event::Delete(_)) => authority.offered(service, &PublicAddresses::default()),
                Err(error) => {
                    let error = error.to_string();
                    if error != reason {
                        warn!(%service, %error, "watch of the public Service failed, trying again");
                        reason = error;
                    }
                    sleep(backoff.next_pause()).await;
                }
            }
        }
        // A stream that ends at once must not become a busy loop.
        sleep(backoff.next_pause()).await;
    }
}

impl PublicAddresses {
    fn holds_same_as(&self, other: &Self) -> bool {
        let sets = |addresses: &Self| {
            [&addresses.hubs, &addresses.enrolments]
                .map(|list| list.iter().map(ToString::to_string).collect::<BTreeSet<_>>())
        };
        sets(self) == sets(other)
    }

    /// Whether remotes can find both ports.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.hubs.is_empty() && !self.enrolments.is_empty()
    }
}

impl Authority {
    /// The Service offers this now. While it offers nothing what was known last stays: agents hold on to it too.
    fn offered(&self, service: &str, offered: &PublicAddresses) {
        let before = self.public.load_full();
        // The order says nothing, and must not be told to every agent each time it changes.
        if before.holds_same_as(offered) {
            return;
        }
        if !offered.is_complete() {
            let last = &before.hubs;
            warn!(%service, ?last, "the public Service has no address, going on with the last that were known");
            return;
        }
        self.public.store(std::sync::Arc::new(offered.clone()));
        let ca = self.ca.load_full();
        // The certificate first, so that whoever is told of an address meets a hub that is good for it.
        if let Err(error) = self.renew_by(&ca) {
            self.public.store(before);
            warn!(%service, %error, "no certificate can be made for the addresses of the public Service");
            return;
        }
        let (hubs, enrolments) = (&offered.hubs, &offered.enrolments);
        info!(%service, ?hubs, ?enrolments, "addresses of the hub changed");
        self.trust.send_replace(std::sync::Arc::new(self.trust_by(&ca)));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(ingress: &serde_json::Value) -> Service {
        let service = json!({
            "spec": {"ports": [
                {"name": "sync", "port": 8444}, {"name": "enrolment", "port": 443}, {"name": "metrics", "port": 8080},
            ]},
            "status": {"loadBalancer": {"ingress": ingress}},
        });
        serde_json::from_value(service).expect("a Service")
    }

    fn shown(addresses: &[HubAddress]) -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_address_of_the_load_balancer_is_offered_with_both_ports() {
        let offered = offered(&service(&json!([
            {"ip": "192.0.2.1"},
            {"ip": "2001:db8::1"},
            {"hostname": "hub.example.com", "ip": "192.0.2.9"},
        ])));
        assert_eq!(
            shown(&offered.hubs),
            ["192.0.2.1:8444", "[2001:db8::1]:8444", "hub.example.com:8444"]
        );
        assert_eq!(
            shown(&offered.enrolments),
            ["192.0.2.1:443", "[2001:db8::1]:443", "hub.example.com:443"]
        );
    }

    #[test]
    fn service_without_load_balancer_or_ports_offers_nothing() {
        assert_eq!(offered(&service(&json!([]))), PublicAddresses::default());
        assert_eq!(offered(&service(&json!([{"ip": ""}, {}]))), PublicAddresses::default());
        let mut bare = service(&json!([{"ip": "192.0.2.1"}]));
        bare.spec = None;
        assert!(!offered(&bare).is_complete());
        assert_eq!(offered(&Service::default()), PublicAddresses::default());
    }

    #[test]
    fn addresses_in_another_order_are_the_same() {
        let of = |ingress: &serde_json::Value| offered(&service(ingress));
        let one = of(&json!([{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}]));
        assert!(one.holds_same_as(&of(&json!([{"ip": "2001:db8::1"}, {"ip": "192.0.2.1"}]))));
        assert!(!one.holds_same_as(&of(&json!([{"ip": "192.0.2.1"}]))));
    }

    #[test]
    fn more_addresses_than_a_remote_is_told_are_left_out() {
        let many = (0..100).map(|number| json!({"ip": format!("192.0.2.{number}")}));
        let offered = offered(&service(&many.collect()));
        assert_eq!(offered.hubs.len(), limits::TRUST_ADDRESSES);
        assert_eq!(offered.enrolments.len(), limits::TRUST_ADDRESSES);
    }

    #[test]
    fn what_was_published_last_is_read_back() {
        let data = [
            ("hubs", "a.test:8444,[2001:db8::1]:8444"),
            ("enrolments", "a.test:8443"),
        ];
        let data = data.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let public = published(&data);
        assert_eq!(shown(&public.hubs), ["a.test:8444", "[2001:db8::1]:8444"]);
        assert!(public.is_complete());
        assert!(!published(&BTreeMap::new()).is_complete());
    }
}
