//! An image that cannot be pulled.

use anyhow::Result;
use serde_json::json;
use support::release::{Chart, Release};
use support::tools::Tool;

use crate::life::record::Record;
use crate::life::stage::{Pair, Stage, object, run, with};

/// Whether a kubelet says so is shown on real nodes, by `make e2e`. Here: what the charts make of such a value, that the
/// remote loses nothing by it, and that the way back is a rollback.
#[test]
fn image_that_is_nowhere_is_named_as_given_and_taken_back_by_a_rollback() -> Result<()> {
    run(async {
        let stage = Stage::start().await?;
        let mut pair = Pair::joined(&stage, Tool::Helm, json!({}), json!({})).await?;
        let record = Record::start(&stage.remote.admin()).await?;
        let nowhere = json!({"image": {"registry": "nowhere.invalid", "repository": "us/agent", "tag": "none"}});
        // Nobody pulls it: the pod that ran is gone, as Recreate has it, and nothing comes in its place.
        pair.agent
            .try_upgrade(&with(&pair.agent_values, nowhere))
            .await?
            .success("helm upgrade")?;
        let deployment = object(&stage.remote.admin(), "apps/v1", "Deployment", Chart::Agent.name()).await?;
        let image = &deployment.unwrap_or_default()["spec"]["template"]["spec"]["containers"][0]["image"];
        assert_eq!(image, "nowhere.invalid/us/agent:none");
        pair.agent.pod_mut()?.terminate().await?;
        assert_eq!(stage.addresses().await?, ["10.24.0.1"]);
        let revision = pair.agent.status().await?["version"].as_u64().unwrap_or(2);
        pair.agent.rollback(u32::try_from(revision)? - 1).await?;
        pair.agent.launch().await?;
        pair.follows(&stage, "pilot-a", "pilot-b", "10.24.0.2").await?;
        assert_eq!(record.losses(), Vec::<String>::new());
        let bad = json!({"image": {"digest": "latest"}});
        let refused = Release::of(&stage.remote, Chart::Agent, "elsewhere", Tool::Helm).await?;
        let said = refused.try_install(&with(&pair.agent_values, bad)).await?;
        assert!(said.code != 0 && said.err.contains("digest"), "{}", said.text());
        Ok(())
    })
}
