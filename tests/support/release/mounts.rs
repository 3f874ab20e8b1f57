//! Volumes of a pod as folders of this machine.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use serde_json::Value;

use super::container::{Container, Mount};

/// Writes all volumes below `folder`, and puts their paths into the container.
pub(super) async fn write(client: &Client, namespace: &str, container: &mut Container, folder: &Path) -> Result<()> {
    for mount in container.mounts.clone() {
        let path = folder.join(&mount.volume);
        refresh(client, namespace, &mount, &path).await?;
        container.replace_folder(&mount.path, &path.to_string_lossy());
    }
    Ok(())
}

/// Writes what the volume holds now; what it no longer holds goes.
async fn refresh(client: &Client, namespace: &str, mount: &Mount, path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))?;
    let wanted = files(client, namespace, &mount.source)
        .await
        .with_context(|| format!("reading volume {}", mount.volume))?;
    for entry in std::fs::read_dir(path).with_context(|| format!("listing {}", path.display()))? {
        let entry = entry?;
        if !wanted.contains_key(&*entry.file_name().to_string_lossy()) {
            std::fs::remove_file(entry.path())?;
        }
    }
    for (name, content) in wanted {
        let (file, new) = (path.join(&name), path.with_extension("new"));
        if std::fs::read(&file).ok().as_ref() == Some(&content) {
            continue;
        }
        // Whole or not at all, as a kubelet does it.
        std::fs::write(&new, content).with_context(|| format!("writing {}", new.display()))?;
        std::fs::rename(&new, &file).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

async fn files(client: &Client, namespace: &str, source: &Value) -> Result<BTreeMap<String, Vec<u8>>> {
    if let Some(sources) = source["projected"]["sources"].as_array() {
        let mut all = BTreeMap::new();
        for source in sources {
            all.extend(Box::pin(files(client, namespace, source)).await?);
        }
        return Ok(all);
    }
    let (secret, map) = (&source["secret"], &source["configMap"]);
    let named = |field: &Value| {
        field["secretName"]
            .as_str()
            .or(field["name"].as_str())
            .map(str::to_owned)
    };
    let (items, held) = if let Some(name) = named(secret) {
        let found = Api::<Secret>::namespaced(client.clone(), namespace)
            .get_opt(&name)
            .await?;
        let held = found.map(|found| found.data.unwrap_or_default());
        let held = held.map(|data| data.into_iter().map(|(key, value)| (key, value.0)).collect());
        (secret, required(held, secret, &name)?)
    } else if let Some(name) = named(map) {
        let found = Api::<ConfigMap>::namespaced(client.clone(), namespace)
            .get_opt(&name)
            .await?;
        let held = found.map(|found| found.data.unwrap_or_default());
        let held = held.map(|data| data.into_iter().map(|(key, value)| (key, value.into_bytes())).collect());
        (map, required(held, map, &name)?)
    } else if source["emptyDir"].is_null() {
        bail!("a volume that no test has looked at: {source}");
    } else {
        return Ok(BTreeMap::new());
    };
    let Some(items) = items["items"].as_array() else {
        return Ok(held);
    };
    let chosen = items.iter().filter_map(|item| {
        let content = held.get(item["key"].as_str()?)?.clone();
        Some((item["path"].as_str()?.to_owned(), content))
    });
    Ok(chosen.collect())
}

type Held = BTreeMap<String, Vec<u8>>;

/// A pod with a missing volume does not start, unless it may be missing.
fn required(held: Option<Held>, source: &Value, name: &str) -> Result<Held> {
    match held {
        Some(held) => Ok(held),
        None if source["optional"] == true => Ok(Held::new()),
        None => bail!("{name} is not there: the pod would not start"),
    }
}
