//! Starts central and remotes with hub and agents, says how to look around, and stays until it is interrupted.

mod left_behind;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use support::playground::Playground;
use support::seed;
use tokio::signal::unix::{SignalKind, signal};

/// Central and remotes on this machine.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// How many remotes.
    #[arg(long, default_value_t = 2)]
    remotes: usize,
    /// Applies the blog's `RemoteIstio` for every remote.
    #[arg(long)]
    joined: bool,
    /// Where exports and pid file go; by default target/playground of the workspace.
    #[arg(long, global = true)]
    folder: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ends a playground that was left behind.
    Down,
}

#[tokio::main]
async fn main() -> ExitCode {
    match start(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("playground: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn start(arguments: &Arguments) -> Result<()> {
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/playground");
    let folder = arguments.folder.clone().unwrap_or_else(usual);
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let folder = folder.canonicalize().context("the playground's folder")?;
    match arguments.command {
        Some(Command::Down) => left_behind::end(&folder),
        None => run(&folder, arguments).await,
    }
}

async fn run(folder: &Path, arguments: &Arguments) -> Result<()> {
    let mark = left_behind::Mark::set(folder)?;
    let interrupted = interrupted()?;
    tokio::pin!(interrupted);
    let started = up(folder, arguments);
    let (playground, resources) = tokio::select! {
        started = started => started?,
        () = &mut interrupted => return Ok(()),
    };
    let environment = folder.join("env");
    // Whoever waits for the file finds it whole.
    let unfinished = folder.join("env.unfinished");
    std::fs::write(&unfinished, playground.exports()).context("writing the exports")?;
    std::fs::rename(&unfinished, &environment).context("moving the exports into place")?;
    print!("{}", playground.page(&environment, &resources));
    println!("Running. Ctrl-C ends all of it (or `make playground-down` from elsewhere).");
    interrupted.await;
    println!("\nplayground: ending");
    std::fs::remove_file(&environment).context("removing the exports")?;
    playground.stop().await?;
    drop(mark);
    Ok(())
}

/// Starts everything and lets every remote join; gives the file with their resources too.
async fn up(folder: &Path, arguments: &Arguments) -> Result<(Playground, PathBuf)> {
    anyhow::ensure!(
        arguments.remotes > 0,
        "a playground without a remote: ask for one at least"
    );
    let mut playground = Playground::start(arguments.remotes, |what| println!("playground: {what}")).await?;
    let resources = write_resources(folder, &playground)?;
    if arguments.joined {
        support::apply_yaml(&playground.central.admin(), &std::fs::read_to_string(&resources)?).await?;
    }
    let service = arguments.joined.then_some(seed::PARTS[0].service);
    for index in 0..playground.remotes.len() {
        let joined = playground.join(index, service).await?;
        println!(
            "playground: {} joined: token create {} ms, then {} ms from the agent's first line to {}",
            playground.remotes[index].name,
            joined.created.as_millis(),
            joined.synced.as_millis(),
            service.map_or("the hub's welcome".to_owned(), |service| format!(
                "the addresses of {service}"
            )),
        );
    }
    Ok((playground, resources))
}

/// One `RemoteIstio` for each remote, in one file.
fn write_resources(folder: &Path, playground: &Playground) -> Result<PathBuf> {
    let path = folder.join("remoteistios.yaml");
    let texts: Vec<String> = playground
        .remotes
        .iter()
        .map(|remote| seed::remote_istio(&remote.name))
        .collect();
    std::fs::write(&path, texts.join("---\n")).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// Ctrl-C, a plain kill, or the end of the terminal.
fn interrupted() -> Result<impl Future<Output = ()>> {
    let mut signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
        .map(signal)
        .into_iter()
        .collect::<std::io::Result<Vec<_>>>()
        .context("listening for signals")?;
    Ok(async move {
        let any = signals.iter_mut().map(|signal| Box::pin(signal.recv()));
        futures::future::select_all(any).await;
    })
}
