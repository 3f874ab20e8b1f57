//! The commands that do one thing on central and end: tokens, joins, identities, the CA of the link, the roots of the mesh.
//!
//! They talk to central's API server alone, with the rights of who runs them: a person, or the hub's own account when
//! they run inside its pod. The hub notices what they wrote by its watches.

mod ca;
mod central;
mod check;
mod error;
mod identity;
mod install;
mod join;
mod mesh_ca;
mod published;
mod show;
mod table;
#[cfg(test)]
mod test_objects;
mod token;

use std::io::Write;

use kube::Client;

use self::central::Central;
pub use self::error::CommandError;
use crate::args::{Operation, Order};

/// Does what was ordered and writes what there is to say. Times are the API server's.
///
/// # Errors
/// It was refused or failed, or the text cannot be written; then nothing further is done.
pub async fn run(client: Client, operation: &Operation, out: &mut dyn Write) -> Result<(), CommandError> {
    let central = Central::at_servers_time(client, &operation.namespace).await?;
    if let Order::Check { limit } = operation.order {
        return check::check(&central, limit, out).await;
    }
    let text = obey(&central, &operation.order).await?;
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

async fn obey(central: &Central, order: &Order) -> Result<String, CommandError> {
    match order {
        // It speaks while it works, and also where it fails.
        Order::Check { .. } => Ok(String::new()),
        Order::TokenCreate(request) => token::create(central, request).await,
        Order::TokenList(output) => token::list(central, *output).await,
        Order::TokenRevoke(which) => token::revoke(central, which).await,
        Order::JoinList(output) => join::list(central, *output).await,
        Order::JoinApprove(which) => join::answer(central, which, join::Answer::Approve).await,
        Order::JoinDeny(which) => join::answer(central, which, join::Answer::Deny).await,
        Order::Revoke {
            remote,
            reason,
            unknown,
        } => identity::revoke(central, remote, reason, *unknown).await,
        Order::Release(remote) => identity::release(central, remote).await,
        Order::IdentityList(output) => identity::list(central, *output).await,
        Order::CaShow { secret, output } => show::show(central, secret, *output).await,
        Order::CaBegin(secret) => ca::begin(central, secret).await,
        Order::CaSwitch(secret) => ca::switch(central, secret).await,
        Order::CaDrop { secret, forget } => ca::drop_old(central, secret, forget).await,
        Order::MeshCaShow(output) => mesh_ca::show(central, *output).await,
        Order::MeshCaForgetRoot { fingerprint, force } => mesh_ca::forget_root(central, fingerprint, *force).await,
    }
}
