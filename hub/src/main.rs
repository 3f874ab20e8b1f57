//! The hub's process. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    remote_istio_hub::app::main(std::env::args_os())
}
