//! Builds the tools that are missing and prints where each one is.

use std::process::ExitCode;

use support::tools::{Tool, Tools};

fn main() -> ExitCode {
    let wanted = [Tool::CLUSTER.as_slice(), &[Tool::Helm, Tool::Helm4]].concat();
    match Tools::ensure(&wanted) {
        Ok(tools) => {
            for tool in wanted {
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
