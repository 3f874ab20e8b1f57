//! To be written.

mod desired;

pub use desired::{Desired, Problem, ServiceDesired};
