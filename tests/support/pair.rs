//! Hub and agents as the real programs, each under the token of its own `ServiceAccount` and the roles of `deploy/`.

mod agent;
mod daemon;
mod hub;
mod link;
mod operator;

pub use self::agent::{Agent, AgentIdentity, AgentOptions};
pub use self::daemon::{Daemon, Metrics, program};
pub use self::hub::{Hub, HubOptions, HubTrust};
pub use self::link::Link;
pub use self::operator::{Invitation, Operator, Said};
