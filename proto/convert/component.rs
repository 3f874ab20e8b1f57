//! Parameters of components: only their bounds are looked at here, what they mean is the agent's to judge.

use prost::Message;

use super::object::{Unread, bounded};
use crate::lane::NackReason;
use crate::limits;
use crate::wire::v1;

pub(super) fn read_citadel(citadel: v1::Citadel) -> Result<v1::Citadel, Unread> {
    sized(&citadel)?;
    read_workload(citadel.workload.as_ref())?;
    Ok(citadel)
}

pub(super) fn read_injector(injector: v1::SidecarInjector) -> Result<v1::SidecarInjector, Unread> {
    sized(&injector)?;
    read_workload(injector.workload.as_ref())?;
    for ranges in [&injector.include_ip_ranges, &injector.exclude_ip_ranges] {
        bounded("bytes of address ranges", ranges.len(), limits::RANGES_MAX_BYTES)?;
    }
    if let Some(proxy) = &injector.proxy {
        for image in [&proxy.image, &proxy.init_image] {
            bounded("bytes of an image's name", image.len(), limits::IMAGE_MAX_BYTES)?;
        }
    }
    Ok(injector)
}

pub(super) fn read_trust(trust: v1::MeshTrust) -> Result<v1::MeshTrust, Unread> {
    bounded("roots of the mesh", trust.roots.len(), limits::MESH_ROOTS)?;
    for root in &trust.roots {
        bounded("bytes of a root", root.len(), limits::CERTIFICATE_MAX_BYTES)?;
    }
    if trust.signer.len() != 32 || trust.roots.is_empty() {
        let text = "a trust of the mesh has a signer of 32 bytes and at least one root";
        return Err((NackReason::Invalid, text.to_owned()));
    }
    Ok(trust)
}

pub(super) fn read_rules(rules: v1::Rules) -> Result<v1::Rules, Unread> {
    match v1::StaleAction::try_from(rules.stale_action) {
        Ok(v1::StaleAction::Unspecified) | Err(_) => Err((
            NackReason::UnknownKind,
            format!("this release does not know stale action {}", rules.stale_action),
        )),
        Ok(_) => Ok(rules),
    }
}

fn read_workload(workload: Option<&v1::Workload>) -> Result<(), Unread> {
    let image = workload.map_or(0, |workload| workload.image.len());
    bounded("bytes of an image's name", image, limits::IMAGE_MAX_BYTES)
}

/// The size bounds every list and text in it.
fn sized(message: &impl Message) -> Result<(), Unread> {
    bounded(
        "bytes of parameters",
        message.encoded_len(),
        limits::COMPONENT_MAX_BYTES,
    )
}
