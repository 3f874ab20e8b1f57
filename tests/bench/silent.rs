//! One API server is stopped where it is: connections stand, nobody answers. What becomes of the other remotes?

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;
use support::guardian::Signal;

use crate::arguments::Plan;
use crate::rival::Rival;
use crate::samples::{Percentiles, Sample, failed};
use crate::system::System;
use crate::world::World;

/// The sequential push is given so many changes.
const PUSHES: usize = 5;

/// A push that has not reached all others after so long stands still: none of its requests has a time-out.
const STALLED: Duration = Duration::from_secs(15);

/// What was found. A sample is the last of the other remotes.
#[derive(Debug, Serialize)]
pub struct Silence {
    /// The remote whose API server is silent.
    pub silent: String,
    /// The others.
    pub others: usize,
    /// The real pair while all API servers answer.
    pub before: Measured,
    /// The real pair while one is silent.
    pub beside: Measured,
    /// The original's way while one is silent.
    pub sequential_push: Pushed,
}

/// Samples of the real pair.
#[derive(Debug, Serialize)]
pub struct Measured {
    /// How many.
    pub changes: usize,
    /// How many never arrived.
    pub failed: usize,
    /// The rest of it.
    #[serde(flatten)]
    pub percentiles: Percentiles,
}

/// What became of the original's way.
#[derive(Debug, Serialize)]
pub struct Pushed {
    /// Changes that all other remotes got, milliseconds each, before it stalled.
    pub arrived_ms: Vec<f64>,
    /// It reached the silent one and never came back.
    pub stalled: bool,
    /// Waited for the change that stalled, seconds.
    pub waited_seconds: u64,
    /// Of its requests.
    pub request_timeout: &'static str,
}

/// Measures without and with a silent API server, the last one.
///
/// # Errors
/// Something else has ended.
pub async fn measure(world: &mut World, plan: &Plan) -> Result<Silence> {
    let others: Vec<usize> = (0..world.remotes.len() - 1).collect();
    let silent = world.remotes.last().context("there are remotes")?.name.clone();
    println!("bench: last of the other {} while all API servers answer", others.len());
    let before = pair(world, &others, plan).await?;
    println!("bench: the API server of {silent} is silent from now on");
    let mut rival = Rival::start(System::SequentialPush, world.central.admin(), world.clients()).await?;
    for _ in 0..plan.warm_up {
        world
            .changes_of(System::SequentialPush)?
            .one(&others, rival.as_mut())
            .await?;
    }
    signal(world, Signal::Stop)?;
    let beside = pair(world, &others, plan).await?;
    let sequential_push = push(world, &others, rival.as_mut()).await?;
    signal(world, Signal::Continue)?;
    Ok(Silence {
        silent,
        others: others.len(),
        before,
        beside,
        sequential_push,
    })
}

fn signal(world: &World, signal: Signal) -> Result<()> {
    world
        .remotes
        .last()
        .context("there are remotes")?
        .cluster
        .signal(signal)
}

async fn pair(world: &mut World, others: &[usize], plan: &Plan) -> Result<Measured> {
    let changes = world.changes_of(System::RemoteIstio)?;
    for _ in 0..plan.warm_up {
        changes.one(others, None).await?;
    }
    let mut samples: Vec<Sample> = Vec::with_capacity(plan.silent_changes);
    for _ in 0..plan.silent_changes {
        samples.push(changes.one(others, None).await?);
    }
    Ok(Measured {
        changes: samples.len(),
        failed: failed(&samples),
        percentiles: Percentiles::of(&samples).context("at least one change")?,
    })
}

async fn push(world: &mut World, others: &[usize], mut rival: Option<&mut Rival>) -> Result<Pushed> {
    let changes = world.changes_of(System::SequentialPush)?;
    let mut pushed = Pushed {
        arrived_ms: Vec::new(),
        stalled: false,
        waited_seconds: STALLED.as_secs(),
        request_timeout: "none",
    };
    for _ in 0..PUSHES {
        let Some(sample) = changes.one_within(others, rival.as_deref_mut(), STALLED).await? else {
            pushed.stalled = true;
            break;
        };
        pushed.arrived_ms.push(crate::samples::milliseconds(sample));
    }
    Ok(pushed)
}
