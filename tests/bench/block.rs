//! One turn of one system.

use serde::Serialize;

use crate::processes::Spent;
use crate::samples::Sample;
use crate::system::System;

/// What came of a turn.
#[derive(Debug, Clone)]
pub struct Block {
    /// Whose turn.
    pub system: System,
    /// How many remotes had to show each change.
    pub remotes: usize,
    /// From 1 on.
    pub round: usize,
    /// One for each counted change.
    pub samples: Vec<Sample>,
    /// Processor time of one change and the quiet after it, all processes, milliseconds.
    pub spent: Spent,
    /// The hub's own figures of this turn; only of remote-istio.
    pub hub: Option<HubLatency>,
    /// The machine's load average of the last minute when it ended.
    pub load_average: String,
}

/// Means of the hub's histograms over one turn, milliseconds from the pod's event.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct HubLatency {
    /// To the agent's acknowledgement: the slice is written.
    pub accepted_ms: f64,
    /// To the agent's word that everything is applied.
    pub applied_ms: f64,
}
