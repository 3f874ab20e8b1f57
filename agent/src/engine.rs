//! To be written.

mod interface;

pub use interface::{Failure, Kind, NamespaceLabels, ObjectName, Outcome, Output, Resource, Seen, Write, WriteId};

/// To be written.
pub struct Engine;
