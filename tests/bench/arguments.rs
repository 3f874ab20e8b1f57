//! How much is measured.

use std::time::Duration;

use clap::Parser;

/// Measures propagation on real API servers.
#[derive(Debug, Parser)]
pub struct Arguments {
    /// Few changes with 1 and 5 remotes, to try the bench itself.
    #[arg(long)]
    quick: bool,
}

impl Arguments {
    /// What was asked for.
    pub fn plan(&self) -> Plan {
        if self.quick { Plan::quick() } else { Plan::full() }
    }
}

/// How much of what.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The numbers of remotes that are measured, rising.
    pub remotes: [usize; 2],
    /// Each system has its turn so often at each number of remotes, so that noise hits all alike.
    pub rounds: usize,
    /// Counted changes of one turn.
    pub changes: usize,
    /// Changes before these that are not counted.
    pub warm_up: usize,
    /// Changes beside a silent API server, and as many without one to compare with.
    pub silent_changes: usize,
    /// How long nothing happens.
    pub idle: Duration,
}

impl Plan {
    fn full() -> Self {
        Self {
            remotes: [1, 20],
            rounds: 3,
            changes: 100,
            warm_up: 10,
            silent_changes: 60,
            idle: Duration::from_mins(1),
        }
    }

    fn quick() -> Self {
        Self {
            remotes: [1, 5],
            rounds: 2,
            changes: 15,
            warm_up: 5,
            silent_changes: 10,
            idle: Duration::from_secs(15),
        }
    }
}
