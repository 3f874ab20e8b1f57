//! `helm test`: the real connection is checked from both sides, and what is wrong is said.

use anyhow::Result;
use serde_json::json;
use support::tools::Tool;

use super::stage::{Pair, Stage, run};

#[test]
fn helm_tests_of_both_charts_pass_on_a_pair_that_works_and_say_what_does_not() -> Result<()> {
    run(async {
        let stage = Stage::start().await?;
        let mut pair = Pair::joined(&stage, Tool::Helm, json!({}), json!({})).await?;
        let (said, runs) = pair.hub.test().await?;
        assert_eq!(said.code, 0, "{}{runs:?}", said.text());
        assert_eq!(runs.len(), 1, "{runs:?}");
        let (said, runs) = pair.agent.test().await?;
        assert_eq!(said.code, 0, "{}{runs:?}", said.text());
        assert_eq!(runs.len(), 1, "{runs:?}");

        pair.hub.pod_mut()?.kill().await?;
        for release in [&mut pair.hub, &mut pair.agent] {
            let (said, runs) = release.test().await?;
            assert_ne!(said.code, 0, "{}", said.text());
            let printed = &runs.first().expect("it ran").printed;
            assert!(
                printed.contains("127.0.0.1") && printed.contains("refused"),
                "{printed}"
            );
        }

        // The same by the other helm, against a hub that is back.
        pair.hub.launch().await?;
        for release in [&mut pair.hub, &mut pair.agent] {
            release.by(Tool::Helm4).await?;
            let (said, runs) = release.test().await?;
            assert_eq!(said.code, 0, "{}{runs:?}", said.text());
        }
        Ok(())
    })
}
