//! The injection template: what the injector makes of a new pod. It is a Go template in YAML in YAML, in which the
//! hub's texts become text; so they are checked before they are accepted, and cleaned once more where they are put in.

use std::collections::BTreeMap;
use std::net::IpAddr;

use remote_istio::policy::image;
use remote_istio::wire::v1;

use super::workload::{CPU_REQUEST, PULL_POLICY, check_image, check_pull_policy, check_resources, or};

/// With `@NAME@` where something is put in. Delimiters of the injector: `[[` and `]]`.
const TEMPLATE: &str = include_str!("injection.yaml");

/// What stands for all addresses.
const EVERYTHING: &str = "*";

/// The injector's configuration: its policy and the template.
#[must_use]
pub fn config(injector: &v1::SidecarInjector) -> String {
    let mut config = "policy: enabled\ntemplate: |-\n".to_owned();
    for line in template(injector).lines() {
        if !line.trim().is_empty() {
            config.push_str("  ");
            config.push_str(line);
        }
        config.push('\n');
    }
    config
}

fn template(injector: &v1::SidecarInjector) -> String {
    let proxy = injector.proxy.clone().unwrap_or_default();
    let values = [
        ("@INCLUDE@", plain(&or(&injector.include_ip_ranges, EVERYTHING))),
        ("@EXCLUDE@", plain(&injector.exclude_ip_ranges)),
        ("@PROXY_IMAGE@", plain(&or(&proxy.image, image::PROXY))),
        ("@INIT_IMAGE@", plain(&or(&proxy.init_image, image::PROXY_INIT))),
        ("@PULL_POLICY@", plain(&or(&proxy.image_pull_policy, PULL_POLICY))),
        ("@PRIVILEGED@", proxy.privileged.to_string()),
        ("@RESOURCES@", resources(proxy.resources.as_ref())),
    ];
    filled(TEMPLATE, &values)
}

/// The text with each name replaced by its value, in one pass: a value that has a name in it stays as it is.
fn filled(text: &str, values: &[(&str, String)]) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('@') {
        let (before, from) = rest.split_at(at);
        filled.push_str(before);
        let (name, value) = values
            .iter()
            .find(|(name, _)| from.starts_with(name))
            .map_or(("@", "@"), |(name, value)| (*name, value.as_str()));
        filled.push_str(value);
        rest = &from[name.len()..];
    }
    filled.push_str(rest);
    filled
}

/// Lines of YAML, as deep as their place in the template.
fn resources(resources: Option<&v1::Resources>) -> String {
    let mut lines = Vec::new();
    let mut amounts = |kind: &str, amounts: &BTreeMap<String, String>| {
        if !amounts.is_empty() {
            lines.push(format!("      {kind}:"));
        }
        for (name, amount) in amounts {
            lines.push(format!("        \"{}\": \"{}\"", plain(name), plain(amount)));
        }
    };
    let given = resources.cloned().unwrap_or_default();
    if given.requests.is_empty() && given.limits.is_empty() {
        amounts("requests", &[("cpu".to_owned(), CPU_REQUEST.to_owned())].into());
    } else {
        amounts("requests", &given.requests);
        amounts("limits", &given.limits);
    }
    lines.join("\n")
}

/// Only what no quotes, of Go or of YAML, can be ended with.
fn plain(text: &str) -> String {
    let allowed = |character: &char| character.is_ascii_alphanumeric() || "._:/@-+*,".contains(*character);
    text.chars().filter(allowed).collect()
}

/// Whether the template can be rendered with this.
///
/// # Errors
/// The field and what is wrong with it.
pub fn check(injector: &v1::SidecarInjector) -> Result<(), String> {
    if injector.include_ip_ranges != EVERYTHING {
        ranges("includeIPRanges", &injector.include_ip_ranges)?;
    }
    ranges("excludeIPRanges", &injector.exclude_ip_ranges)?;
    let Some(proxy) = &injector.proxy else {
        return Ok(());
    };
    check_image("proxy.image", &proxy.image)?;
    check_image("proxyInit.image", &proxy.init_image)?;
    check_pull_policy("proxy.imagePullPolicy", &proxy.image_pull_policy)?;
    check_resources("proxy.resources", proxy.resources.as_ref())
}

/// CIDRs with commas between, or nothing.
fn ranges(field: &str, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    match text.split(',').find(|range| !is_range(range)) {
        None => Ok(()),
        Some(range) => Err(format!("{field}: {range:?} is no CIDR, such as 10.0.0.0/8")),
    }
}

fn is_range(range: &str) -> bool {
    let Some((address, bits)) = range.split_once('/') else {
        return false;
    };
    let digits = (1..=3).contains(&bits.len()) && bits.bytes().all(|byte| byte.is_ascii_digit());
    match (address.parse(), bits.parse::<u8>()) {
        (Ok(IpAddr::V4(_)), Ok(bits)) => digits && bits <= 32,
        (Ok(IpAddr::V6(_)), Ok(bits)) => digits && bits <= 128,
        _ => false,
    }
}
