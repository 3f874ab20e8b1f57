//! Turns of all systems, so that what else the machine does hits all alike.

use anyhow::Result;

use crate::arguments::Plan;
use crate::block::Block;
use crate::processes::load_average;
use crate::rival::Rival;
use crate::samples::{Percentiles, failed};
use crate::system::System;
use crate::world::World;

/// All turns at the present number of remotes.
///
/// # Errors
/// Something has ended.
pub async fn measure(world: &mut World, plan: &Plan) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    for round in 1..=plan.rounds {
        for turn in 0..System::ALL.len() {
            // The real pair is the first in the last round, so that it has long been idle after it.
            let system = System::ALL[(turn + plan.rounds - round) % System::ALL.len()];
            let block = turn_of(world, plan, system, round).await?;
            say(&block, plan);
            blocks.push(block);
        }
    }
    Ok(blocks)
}

async fn turn_of(world: &mut World, plan: &Plan, system: System, round: usize) -> Result<Block> {
    let remotes: Vec<usize> = (0..world.remotes.len()).collect();
    let mut rival = Rival::start(system, world.central.admin(), world.clients()).await?;
    for _ in 0..plan.warm_up {
        world.changes_of(system)?.one(&remotes, rival.as_mut()).await?;
    }
    let (spent, hub) = (world.spent()?, world.hub_latency().await?);
    let mut samples = Vec::with_capacity(plan.changes);
    for _ in 0..plan.changes {
        samples.push(world.changes_of(system)?.one(&remotes, rival.as_mut()).await?);
    }
    let hub = world.hub_latency().await?.since(hub);
    Ok(Block {
        system,
        remotes: remotes.len(),
        round,
        spent: world.spent()?.since(spent, samples.len()),
        hub: (system == System::RemoteIstio).then_some(hub),
        samples,
        load_average: load_average(),
    })
}

fn say(block: &Block, plan: &Plan) {
    let Some(percentiles) = Percentiles::of(&block.samples) else {
        return;
    };
    println!(
        "bench: {:2} remotes, round {} of {}, {:<15} p50 {:8.1} ms   p99 {:8.1} ms   failed {}   load {}",
        block.remotes,
        block.round,
        plan.rounds,
        block.system.name(),
        percentiles.p50_ms,
        percentiles.p99_ms,
        failed(&block.samples),
        block.load_average
    );
}
