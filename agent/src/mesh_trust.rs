//! The remote's intermediate CA of the mesh: its key is made here and stays here, the hub has it signed, and the Secret
//! `cacerts` that Citadel reads is kept as it should be.
//!
//! A `cacerts` without this agent's labels is the user's own: it is used as it is and never written.

mod call;
mod chain;
mod keeper;
mod key;
mod secret;
mod step;
mod store;

pub use keeper::{Keeper, KeeperParts};
