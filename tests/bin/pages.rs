//! Writes the files that are made from the charts.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use support::pages;
use support::release::repository;

fn main() -> ExitCode {
    match write() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pages: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn write() -> Result<()> {
    for page in pages::all()? {
        std::fs::write(repository().join(page.path), page.text).with_context(|| format!("writing {}", page.path))?;
    }
    Ok(())
}
