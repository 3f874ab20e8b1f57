//! The frame of a process: logs, signals, tasks, readiness, the admin endpoint, exit codes, pauses.
//!
//! Knows nothing of hub or agent; both are built into it.

mod admin;
mod backoff;
mod logging;
mod readiness;
mod signals;
mod stats;
mod tasks;

pub use admin::{Admin, BindError, admin_router};
pub use backoff::Backoff;
pub use logging::{LogFormat, LoggingError, init_logging};
pub use readiness::{Condition, Readiness};
pub use signals::shutdown_signal;
pub use stats::ProcessStats;
pub use tasks::{BoxError, Outcome, TaskError, Tasks};

/// Exit code for a failure that is not the configuration's.
pub const EXIT_FAILURE: u8 = 1;

/// Exit code for flags, files and settings that cannot be used (`EX_USAGE`): a restart cannot help.
pub const EXIT_CONFIGURATION: u8 = 64;
