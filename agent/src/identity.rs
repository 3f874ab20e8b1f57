//! How the agent gets its identity, keeps it, and looks after it: join, recover, renew, and whom it trusts.
//!
//! Keys are made here and never leave the remote; what is kept stands in one Secret that only the agent's account can
//! read.

mod calls;
mod establish;
mod keeper;
mod kept;
mod key;
pub(crate) mod pauses;
pub(crate) mod schedule;
mod step;
mod store;
mod token_file;

pub use calls::Enroller;
pub use establish::{Established, Establishing};
pub use keeper::{Keeper, KeeperError, KeeperParts};
pub use kept::{Contents, Kept};
pub use store::{Store, StoreError};
pub use token_file::read as read_token;
