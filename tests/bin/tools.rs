//! Builds the tools that are missing and prints where each one is.

use std::process::ExitCode;

use support::tools::{Tool, Tools};

fn main() -> ExitCode {
    match Tools::ensure() {
        Ok(tools) => {
            for tool in Tool::ALL {
                println!("{:<24} {}", tool.name(), tools.path(tool).display());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("tools: {error:#}");
            ExitCode::FAILURE
        }
    }
}
