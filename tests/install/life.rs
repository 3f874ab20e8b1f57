//! The life of the two releases: join, upgrade, rollback, uninstall, install again, and other versions of either end.

pub mod record;
pub mod stage;

mod connection;
mod crds;
mod uninstall;
mod upgrade;
mod versions;
