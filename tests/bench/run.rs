//! The whole run.

use anyhow::Result;
use tokio::time::Instant;

use crate::arguments::Plan;
use crate::processes::load_average;
use crate::report::{Report, folder};
use crate::world::World;
use crate::{idle, rounds, silent};

/// Measures everything, prints the tables and writes the files. False when a change never arrived.
///
/// # Errors
/// Something does not start or has ended; or the files cannot be written.
pub async fn run(plan: &Plan) -> Result<bool> {
    let started = Instant::now();
    if cfg!(debug_assertions) {
        println!("bench: THIS IS NOT A RELEASE BUILD, its figures mean nothing; run `make bench`");
    }
    println!(
        "bench: {} processors, load average {} before anything was started",
        std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        load_average()
    );
    println!("bench: starting etcd, central and the hub");
    let mut world = World::start().await?;
    let measured = measure(&mut world, plan).await;
    if measured.is_err() {
        world.keep_logs();
    }
    let report = measured?;
    let folder = folder()?;
    report.write(&folder)?;
    print!("\n{}", report.text());
    println!(
        "\nRaw figures in {}; all of it took {} s.",
        folder.display(),
        started.elapsed().as_secs()
    );
    if report.failed() > 0 {
        world.keep_logs();
    }
    Ok(report.failed() == 0)
}

async fn measure(world: &mut World, plan: &Plan) -> Result<Report> {
    let mut blocks = Vec::new();
    for remotes in plan.remotes.iter().copied() {
        world.grow(remotes).await?;
        blocks.extend(rounds::measure(world, plan).await?);
    }
    let idle = idle::measure(world, plan.idle).await?;
    let silence = silent::measure(world, plan).await?;
    Ok(Report { blocks, idle, silence })
}
