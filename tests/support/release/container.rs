//! What a pod's only container says: program, arguments, environment, mounts.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// A container as a process would need it; paths and ports are still those inside of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Container {
    /// The name of the program, without folders.
    pub(super) program: String,
    /// What follows it.
    pub(super) arguments: Vec<String>,
    /// Its variables.
    pub(super) environment: Vec<(String, String)>,
    /// The account of its pod.
    pub(super) account: String,
    /// Where which volume lies.
    pub(super) mounts: Vec<Mount>,
}

/// One volume and where it is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// The volume's name.
    pub(super) volume: String,
    /// Inside of the container.
    pub(super) path: String,
    /// The volume as the pod describes it.
    pub(super) source: Value,
}

impl Container {
    /// Reads the spec of a pod whose name and namespace these are.
    pub(super) fn read(spec: &Value, name: &str, namespace: &str) -> Result<Self> {
        let containers = spec["containers"].as_array().context("a pod without containers")?;
        ensure!(containers.len() == 1, "a pod of {} containers", containers.len());
        let container = &containers[0];
        let environment = container["env"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|variable| {
                let key = text(&variable["name"])?;
                let value = value_of(variable, name, namespace).with_context(|| format!("variable {key}"))?;
                Ok((key, value))
            })
            .collect::<Result<Vec<_>>>()?;
        let texts = |field: &str| -> Result<Vec<String>> {
            let listed = container[field].as_array().into_iter().flatten();
            listed.map(|one| Ok(expanded(text(one)?, &environment))).collect()
        };
        let (command, arguments) = (texts("command")?, texts("args")?);
        let image = text(&container["image"])?;
        let program = command
            .first()
            .cloned()
            .unwrap_or_else(|| image_name(&image).to_owned());
        Ok(Self {
            program: program.rsplit('/').next().unwrap_or_default().to_owned(),
            arguments: command.into_iter().skip(1).chain(arguments).collect(),
            account: spec["serviceAccountName"].as_str().unwrap_or("default").to_owned(),
            mounts: mounts(spec, container)?,
            environment,
        })
    }

    /// Takes a flag and its value away, in either notation.
    pub(super) fn take_flag(&mut self, name: &str) {
        let (alone, with_value) = (format!("--{name}"), format!("--{name}="));
        let mut skip = false;
        self.arguments.retain(|argument| {
            if std::mem::take(&mut skip) {
                return false;
            }
            skip = *argument == alone;
            !skip && !argument.starts_with(&with_value)
        });
    }

    /// Replaces a variable.
    pub(super) fn set_variable(&mut self, name: &str, value: String) {
        self.environment.retain(|(present, _)| present != name);
        self.environment.push((name.to_owned(), value));
    }

    /// Puts another folder wherever one inside of the container is named.
    pub(super) fn replace_folder(&mut self, from: &str, to: &str) {
        self.replace(&format!("{from}/"), &format!("{to}/"));
    }

    /// Puts another text wherever one is named.
    pub(super) fn replace(&mut self, from: &str, to: &str) {
        let values = self.environment.iter_mut().map(|(_, value)| value);
        for text in self.arguments.iter_mut().chain(values) {
            *text = text.replace(from, to);
        }
    }
}

/// An image's name without registry, tag and digest: what its entrypoint is called too.
fn image_name(image: &str) -> &str {
    let last = image.rsplit('/').next().unwrap_or_default();
    last.split(['@', ':']).next().unwrap_or_default()
}

fn mounts(spec: &Value, container: &Value) -> Result<Vec<Mount>> {
    let volumes: Vec<&Value> = spec["volumes"].as_array().into_iter().flatten().collect();
    let mounted = container["volumeMounts"].as_array().into_iter().flatten();
    mounted
        .map(|mount| {
            let volume = text(&mount["name"])?;
            let source = volumes.iter().find(|described| described["name"] == volume.as_str());
            Ok(Mount {
                path: text(&mount["mountPath"])?,
                source: (*source.with_context(|| format!("no volume {volume}"))?).clone(),
                volume,
            })
        })
        .collect()
}

/// What a kubelet puts in: a value, or a field of the pod.
fn value_of(variable: &Value, name: &str, namespace: &str) -> Result<String> {
    let source = &variable["valueFrom"];
    if source.is_null() {
        return Ok(variable["value"].as_str().unwrap_or_default().to_owned());
    }
    match source["fieldRef"]["fieldPath"].as_str() {
        Some("metadata.name") => Ok(name.to_owned()),
        Some("metadata.namespace") => Ok(namespace.to_owned()),
        Some("spec.nodeName") => Ok("node".to_owned()),
        Some("status.podIP") => Ok("127.0.0.1".to_owned()),
        _ => anyhow::bail!("comes from where no test has looked: {source}"),
    }
}

/// `$(NAME)` as a kubelet expands it.
fn expanded(text: String, environment: &[(String, String)]) -> String {
    environment
        .iter()
        .fold(text, |text, (name, value)| text.replace(&format!("$({name})"), value))
}

fn text(value: &Value) -> Result<String> {
    value
        .as_str()
        .map(str::to_owned)
        .with_context(|| format!("{value} is no text"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn container_is_read_as_a_kubelet_would() -> Result<()> {
        let spec = json!({
            "serviceAccountName": "someone",
            "containers": [{
                "image": "registry.test:5000/us/remote-istio-hub:1@sha256:00",
                "args": ["run", "--name=$(NAME)", "--policy", "/etc/policy/policy.yaml", "--x-address=[::]:1"],
                "env": [
                    {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "FILE", "value": "/etc/policy/other"},
                ],
                "volumeMounts": [{"name": "policy", "mountPath": "/etc/policy"}],
            }],
            "volumes": [{"name": "policy", "configMap": {"name": "the-policy"}}],
        });
        let mut read = Container::read(&spec, "pod-0", "here")?;
        read.replace_folder("/etc/policy", "/tmp/a");
        read.take_flag("x-address");
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            read,
            Container {
                program: "remote-istio-hub".to_owned(),
                arguments: texts(&["run", "--name=pod-0", "--policy", "/tmp/a/policy.yaml"]),
                environment: vec![
                    ("NAME".to_owned(), "pod-0".to_owned()),
                    ("FILE".to_owned(), "/tmp/a/other".to_owned())
                ],
                account: "someone".to_owned(),
                mounts: vec![Mount {
                    volume: "policy".to_owned(),
                    path: "/etc/policy".to_owned(),
                    source: spec["volumes"][0].clone(),
                }],
            }
        );
        read.take_flag("policy");
        assert_eq!(read.arguments, ["run", "--name=pod-0"]);
        Ok(())
    }
}
