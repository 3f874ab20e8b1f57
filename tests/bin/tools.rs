//! Builds the tools that are missing and prints where each one is.

use support::tools::{Tool, Tools};

fn main() -> anyhow::Result<()> {
    let tools = Tools::ensure()?;
    for tool in Tool::ALL {
        println!("{:<24} {}", tool.name(), tools.path(tool).display());
    }
    Ok(())
}
