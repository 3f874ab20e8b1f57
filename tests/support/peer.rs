//! Scripted peers: an agent that says what a test wants it to, well formed or not, a hub that does the same, and a
//! remote that joins.

mod agent;
mod hub;
mod joiner;
mod raw;

pub use agent::{ScriptedAgent, hello};
pub use hub::{HubSession, ScriptedHub};
pub use joiner::{Joiner, dial, issued, join_on};
pub use raw::RawCodec;

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, Result};
    use remote_istio::limits;
    use remote_istio::model::{Body, Key, Lane, Object, ServiceIntent};
    use remote_istio::tls::CertificateFiles;
    use remote_istio::wire::v1::{self, agent_frame};
    use tonic::{Code, Status};

    use super::*;
    use crate::ca::{Authority, Leaf, TRUST_DOMAIN};

    fn files(folder: &tempfile::TempDir, authority: &Authority, name: &str, leaf: &Leaf) -> Result<CertificateFiles> {
        let files = authority.issue_into(&folder.path().join(name), leaf)?;
        Ok(CertificateFiles {
            certificate: files.certificate,
            key: files.key,
            trust_bundle: files.trust_bundle,
        })
    }

    #[tokio::test]
    async fn scripted_peers_understand_each_other_and_each_others_garbage() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let authority = Authority::new("link")?;
        let hub = ScriptedHub::start(files(&folder, &authority, "hub", &Leaf::hub())?, TRUST_DOMAIN).await?;
        let remote = files(&folder, &authority, "remote", &Leaf::remote("remote-1"))?;
        let open = ScriptedAgent::open(hub.address(), remote, TRUST_DOMAIN, hello("boot", 3));
        let (agent, session) = tokio::join!(open, hub.session());
        let (mut agent, mut session) = (agent?, session?);
        assert_eq!(session.hello.session_epoch, 3);
        assert!(session.peer.address.starts_with("127.0.0.1"));
        session.welcome("hub-boot").await?;
        assert_eq!(agent.welcome().await?.boot_id, "hub-boot");

        let service = Object::new(1, None, Body::Service(ServiceIntent { ports: vec![] }));
        let objects = vec![(Key::service("a", "b"), service)];
        let nonce = session.snapshot(Lane::Config, objects, false).await?;
        let delta = agent.delta().await?;
        assert_eq!(delta.upserts[0].key, "service/a/b");
        agent.accept(&delta).await?;
        assert_eq!(session.ack(nonce).await?.nacks, []);

        agent.send_raw(vec![0; limits::FRAME_MAX_BYTES]).await?;
        let error = session.next().await.err().context("garbage reads as an error")?;
        let status = error.downcast_ref::<Status>().context("of gRPC")?;
        assert_eq!(status.code(), Code::Internal, "{status:?}");
        session.end(Status::aborted("enough")).await?;
        assert_eq!(agent.ended().await?.message(), "enough");
        assert!(agent.send(agent_frame::Frame::Ack(v1::Ack::default())).await.is_err() || agent.next().await.is_err());
        Ok(())
    }
}
