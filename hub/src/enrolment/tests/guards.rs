//! What stands between a token's bearer and a name when something changes in between.

use std::sync::Arc;

use remote_istio::enrolment::Token;
use remote_istio::limits;
use tonic::Code;

use super::super::Records as _;
use super::world::{Agent, World, agent, issued, refused, state};
use crate::crd::{JoinTokenSpec, TokenState};

#[tokio::test]
async fn token_that_is_another_than_the_watch_shows_opens_nothing() {
    let changes: [fn(&mut JoinTokenSpec); 2] = [
        |spec| spec.secret_hash = Token::new([1; 5], [1; 32]).secret_hash(),
        |spec| spec.remote = "remote-2".to_owned(),
    ];
    for change in changes {
        let world = World::new();
        let token = world.token("remote-1");
        let shown = world.memory.token(token.id()).await.expect("read");
        world.hub.enrolment.tokens.seen(shown.expect("a token"));
        world.memory.edit_token(token.id(), |token| change(&mut token.spec));
        let (code, _) = refused(world.hub.join(&agent("192.0.2.1:5", "cluster-1"), &token).await);
        assert_eq!(code, Code::Unauthenticated);
        assert_eq!(world.memory.names(), []);
    }
}

#[tokio::test]
async fn wrong_secrets_of_one_token_ask_central_once() {
    let world = World::new();
    let good = world.token("remote-1");
    let wrong = Token::new([0; 5], [1; 32]).reveal();
    let wrong = format!("{}{}", good.id(), &wrong[8..]);
    let (before, _) = world.memory.reads_and_writes();
    for _ in 0..3 {
        let (code, _) = refused(world.hub.join_with(&agent("192.0.2.1:5", "cluster-1"), &wrong).await);
        assert_eq!(code, Code::Unauthenticated);
    }
    assert_eq!(world.memory.reads_and_writes().0, before + 1);
}

#[tokio::test]
async fn name_that_is_removed_while_its_remote_joins_anew_is_bound_all_the_same() {
    let world = World::new();
    let agent = agent("192.0.2.1:5", "cluster-1");
    world.joined("remote-1", &agent).await;
    let token = world.token("remote-1");
    let memory = Arc::clone(&world.memory);
    let removal = async move { memory.remove_name("remote-1") };
    world.memory.before_token(Box::pin(removal));
    let anew = issued(world.hub.join(&agent, &token).await);
    assert_eq!(world.memory.names().len(), 1);
    assert!(world.hub.admits(&anew, "remote-1"));
}

#[tokio::test]
async fn cluster_uid_that_is_longer_than_any_uses_no_token_up() {
    let world = World::new();
    let token = world.token("remote-1");
    let long = Agent {
        cluster_uid: "u".repeat(limits::NAME_MAX_BYTES + 1).leak(),
        ..agent("192.0.2.1:5", "cluster-1")
    };
    let (code, text) = refused(world.hub.join(&long, &token).await);
    assert_eq!(code, Code::InvalidArgument);
    assert!(text.starts_with("cluster_uid has "), "{text}");
    assert_eq!(state(&world, &token), TokenState::Unused);
}
