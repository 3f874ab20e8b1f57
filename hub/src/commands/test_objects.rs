//! Small objects for the tests of the commands.

use std::time::SystemTime;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::authority::LinkCa;
use crate::crd::{
    Approval, JoinToken, JoinTokenSpec, JoinTokenStatus, RemoteIdentity, RemoteIdentitySpec, RemoteIdentityStatus,
    TokenClaim, TokenState,
};

/// So many seconds after a fixed moment, near which all tests happen.
pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).expect("a moment")
}

/// A token that ends an hour after the fixed moment.
pub(super) fn token(id: &str, remote: &str, state: TokenState) -> JoinToken {
    let spec = JoinTokenSpec {
        remote: remote.to_owned(),
        secret_hash: "0".repeat(64),
        expires_at: Time(at(3600)),
        approval: Approval::Manual,
        cluster_uid: None,
        created_by: "ann".to_owned(),
    };
    let claim = TokenClaim {
        key: "sha256:00".to_owned(),
        cluster_uid: format!("uid-of-{remote}"),
        address: "192.0.2.1".to_owned(),
    };
    let mut token = JoinToken::new(id, spec);
    if state != TokenState::Unused {
        token.status = Some(JoinTokenStatus {
            state,
            claim: Some(claim),
            ..JoinTokenStatus::default()
        });
    }
    token
}

/// A remote that joined at the fixed moment.
pub(super) fn identity(name: &str) -> RemoteIdentity {
    let spec = RemoteIdentitySpec {
        cluster_uid: format!("uid-of-{name}"),
        joined_at: Time(at(0)),
        key: String::new(),
        not_before: Time(at(0)),
        released: false,
        revoked: None,
    };
    RemoteIdentity::new(name, spec)
}

/// A remote that said what it trusts and whose certificate is of this signer.
pub(super) fn trusting(name: &str, epoch: i64, signer: &LinkCa) -> RemoteIdentity {
    let mut identity = identity(name);
    identity.status = Some(RemoteIdentityStatus {
        trust_epoch: Some(epoch),
        signer: Some(signer.signer().to_string()),
    });
    identity
}

/// A made CA of today.
pub(super) fn link_ca() -> LinkCa {
    LinkCa::create("mesh.test", SystemTime::now()).expect("a CA")
}
