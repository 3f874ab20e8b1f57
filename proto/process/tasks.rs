//! Every task of the process lives here: one that ends unasked ends the process, and none outlives it.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// Any error of a task.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a task may return.
pub trait Outcome {
    /// As a result.
    ///
    /// # Errors
    /// The task failed.
    fn into_result(self) -> Result<(), BoxError>;
}

impl Outcome for () {
    fn into_result(self) -> Result<(), BoxError> {
        Ok(())
    }
}

impl<E: Into<BoxError>> Outcome for Result<(), E> {
    fn into_result(self) -> Result<(), BoxError> {
        self.map_err(Into::into)
    }
}

/// Why the process cannot go on, or did not end in good order.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// A task returned although nobody asked it to.
    #[error("task {0:?} ended unasked")]
    Ended(&'static str),
    /// A task failed.
    #[error("task {name:?} failed: {source}")]
    Failed {
        /// The task.
        name: &'static str,
        /// Its error.
        source: BoxError,
    },
    /// A task panicked.
    #[error("task {0:?} panicked")]
    Panicked(&'static str),
    /// Tasks that did not end within the deadline of the shutdown; they were aborted.
    #[error("tasks did not end in time: {0}")]
    Late(String),
}

/// The tasks of a process. Dropping it aborts them all.
#[derive(Debug, Default)]
pub struct Tasks {
    running: JoinSet<Result<(), BoxError>>,
    name_by_id: BTreeMap<Id, &'static str>,
    stop: CancellationToken,
}

impl Tasks {
    /// `stop`: whoever cancels it asks all tasks to end.
    #[must_use]
    pub fn new(stop: CancellationToken) -> Self {
        Self {
            stop,
            ..Self::default()
        }
    }

    /// Tells a task when to end. Give each one a clone.
    #[must_use]
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Starts a task. It must end by itself soon after [`Tasks::stop`] is cancelled, and not before.
    pub fn spawn<F>(&mut self, name: &'static str, task: F)
    where
        F: Future<Output: Outcome> + Send + 'static,
    {
        let handle = self.running.spawn(async move { task.await.into_result() });
        self.name_by_id.insert(handle.id(), name);
    }

    /// Waits until the tasks are asked to stop. Safe to drop while it waits.
    ///
    /// # Errors
    /// A task ended before that: the process should end, with [`Tasks::shutdown`] for the others.
    pub async fn wait(&mut self) -> Result<(), TaskError> {
        let stop = self.stop.clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            Some(ended) = self.running.join_next_with_id() => {
                let (name, result) = self.name_of(ended);
                result?;
                if stop.is_cancelled() { Ok(()) } else { Err(TaskError::Ended(name)) }
            }
        }
    }

    /// Asks all tasks to stop and waits for them; what still runs after `deadline` is aborted.
    ///
    /// # Errors
    /// The first task that failed or panicked on its way out, else the tasks that were aborted.
    pub async fn shutdown(mut self, deadline: Duration) -> Result<(), TaskError> {
        self.stop.cancel();
        let mut first_error = Ok(());
        let all_ended = tokio::time::timeout(deadline, async {
            while let Some(ended) = self.running.join_next_with_id().await {
                let (_, result) = self.name_of(ended);
                if first_error.is_ok() {
                    first_error = result;
                }
            }
        });
        if all_ended.await.is_err() {
            let late: Vec<&str> = self.name_by_id.values().copied().collect();
            self.running.shutdown().await;
            return first_error.and(Err(TaskError::Late(late.join(", "))));
        }
        first_error
    }

    fn name_of(
        &mut self,
        ended: Result<(Id, Result<(), BoxError>), JoinError>,
    ) -> (&'static str, Result<(), TaskError>) {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let name = self.name_by_id.remove(&id).unwrap_or("unnamed");
        let result = match ended {
            Ok((_, result)) => result.map_err(|source| TaskError::Failed { name, source }),
            Err(_) => Err(TaskError::Panicked(name)),
        };
        (name, result)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    async fn until_stopped(stop: CancellationToken) {
        stop.cancelled().await;
    }

    async fn panics() {
        tokio::task::yield_now().await;
        panic!("on purpose");
    }

    #[tokio::test]
    async fn task_that_ends_unasked_ends_the_wait_with_its_name() {
        let mut tasks = Tasks::default();
        tasks.spawn("steady", until_stopped(tasks.stop().clone()));
        tasks.spawn("short", async {});
        assert!(matches!(tasks.wait().await, Err(TaskError::Ended("short"))));
        tasks.spawn("broken", async { Err::<(), _>("no disk") });
        assert_eq!(
            tasks.wait().await.expect_err("failed").to_string(),
            "task \"broken\" failed: no disk"
        );
        tasks.spawn("rash", panics());
        assert!(matches!(tasks.wait().await, Err(TaskError::Panicked("rash"))));
        tasks.shutdown(LONG).await.expect("the steady one ends when asked");
    }

    #[tokio::test]
    async fn wait_ends_well_when_a_stop_is_asked_for() {
        let mut tasks = Tasks::default();
        tasks.spawn("steady", until_stopped(tasks.stop().clone()));
        tasks.stop().cancel();
        tasks.wait().await.expect("asked for");
    }

    #[tokio::test]
    async fn task_that_does_not_stop_is_aborted_and_named() {
        let mut tasks = Tasks::default();
        tasks.spawn("steady", until_stopped(tasks.stop().clone()));
        tasks.spawn("stubborn", pending::<()>());
        let error = tasks
            .shutdown(Duration::from_millis(50))
            .await
            .expect_err("one is late");
        assert_eq!(error.to_string(), "tasks did not end in time: stubborn");
    }
}
