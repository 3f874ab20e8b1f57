//! The session of the 2019 blog, replayed line by line on real clusters; writes what was typed and what came of it as a
//! page. Exits with 1 if an output is not equivalent.

mod page;
mod session;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use support::playground::Playground;

use crate::page::Page;

/// Replays the blog's session.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where the page goes.
    #[arg(long, default_value = "docs/walkthrough.md")]
    page: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    match Box::pin(walk(&Arguments::parse())).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("walkthrough: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn walk(arguments: &Arguments) -> Result<()> {
    let mut playground = Playground::start(0, |what| eprintln!("walkthrough: {what}")).await?;
    let mut page = Page::default();
    let replayed = session::replay(&mut page, &mut playground).await;
    if replayed.is_err() {
        playground.folder.keep_logs();
        eprintln!("{}", page.text());
    }
    replayed?;
    playground.stop().await?;
    std::fs::write(&arguments.page, page.text()).with_context(|| format!("writing {}", arguments.page.display()))
}
