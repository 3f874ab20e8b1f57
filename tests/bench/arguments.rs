//! How much is measured.

use std::time::Duration;

use clap::Parser;

/// Measures propagation on real API servers.
#[derive(Debug, Parser)]
pub struct Arguments {
    /// Few changes with 1 and 5 remotes, to try the bench itself.
    #[arg(long)]
    quick: bool,
    /// Other numbers of remotes, rising.
    #[arg(long, value_delimiter = ',')]
    remotes: Vec<usize>,
    /// Another number of rounds.
    #[arg(long)]
    rounds: Option<usize>,
    /// Another number of counted changes in each round.
    #[arg(long)]
    changes: Option<usize>,
}

impl Arguments {
    /// What was asked for.
    pub fn plan(&self) -> Plan {
        let plan = if self.quick { Plan::quick() } else { Plan::full() };
        Plan {
            remotes: if self.remotes.is_empty() {
                plan.remotes
            } else {
                self.remotes.clone()
            },
            rounds: self.rounds.unwrap_or(plan.rounds),
            changes: self.changes.unwrap_or(plan.changes),
            ..plan
        }
    }
}

/// How much of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The numbers of remotes that are measured, rising.
    pub remotes: Vec<usize>,
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
            remotes: vec![1, 20],
            rounds: 3,
            changes: 100,
            warm_up: 10,
            silent_changes: 60,
            idle: Duration::from_mins(1),
        }
    }

    fn quick() -> Self {
        Self {
            remotes: vec![1, 5],
            rounds: 2,
            changes: 15,
            warm_up: 5,
            silent_changes: 10,
            idle: Duration::from_secs(15),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_run_has_the_changes_that_were_promised() {
        let plan = Arguments::parse_from(["bench"]).plan();
        assert!(plan.rounds * plan.changes >= 300, "{plan:?}");
        assert_eq!(plan.remotes, [1, 20]);
        let other = Arguments::parse_from(["bench", "--quick", "--remotes", "2,3", "--changes", "7"]).plan();
        assert_eq!(
            (other.remotes, other.changes, other.rounds),
            (vec![2, 3], 7, Plan::quick().rounds)
        );
    }
}
