//! The whole installation on real nodes, as a person would do it. Exits with 1 if a step is not as said, and with 2,
//! saying why, where real nodes cannot run.

mod figures;
mod start;
mod steps;
mod terminal;
mod world;

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::figures::Figures;
use crate::steps::Walk;
use crate::terminal::Terminal;
use crate::world::World;

#[tokio::main]
async fn main() -> ExitCode {
    if let Some(why) = support::node::missing() {
        println!("e2e: not run: {why}");
        return ExitCode::from(2);
    }
    let terminal = Terminal::new();
    // An orderly end also after a Ctrl-C: the control groups of the nodes go with the nodes.
    let walked = tokio::select! {
        walked = walk(&terminal) => walked,
        told = interrupted() => told,
    };
    match walked {
        Ok(()) => {
            terminal.line(&format!("All as said, in {} s.", terminal.seconds()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            terminal.failed(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Comes back when a person or a machine ends the run.
async fn interrupted() -> Result<()> {
    let mut ended = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed.context("listening for Ctrl-C")?,
        _ = ended.recv() => {}
    }
    bail!("interrupted")
}

async fn walk(terminal: &Terminal) -> Result<()> {
    terminal.step("Central with two nodes and two remotes with one: kubelets, containers, a flat network of pods");
    let world = World::start(terminal).await?;
    let figures = Figures::default();
    let places = world.places();
    let walk = Walk {
        world: &world,
        terminal,
        places: &places,
        figures: &figures,
    };
    let walked = walk.all().await;
    if walked.is_err() {
        world.keep_logs();
    }
    walked?;
    terminal.step("What was measured");
    figures.write(terminal)?;
    Ok(())
}
