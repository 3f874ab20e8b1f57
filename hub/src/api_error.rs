//! What an API server's refusal says, short enough for a log line or a condition.

use std::error::Error;

/// The API server's own words, or those of the client when no answer came.
#[must_use]
pub fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.is_forbidden() => {
            format!("{}; apply the roles that come with the hub", status.message)
        }
        kube::Error::Api(status) => status.message.clone(),
        other => with_causes(other),
    }
}

/// The first words of a client's error say only that it could not connect; why stands further down.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        // Many wrappers repeat what they wrap.
        if !text.contains(&words) {
            text.extend([": ", &words]);
        }
        cause = error.source();
    }
    text
}

/// The HTTP status code of the answer; 0 when no answer came.
#[must_use]
pub fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("client error (Connect)")]
    struct Connect(#[source] io::Error);

    #[test]
    fn why_no_answer_came_is_said_once() {
        let refused = io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused");
        let error = kube::Error::Service(Box::new(Connect(refused)));
        assert_eq!(
            message(&error),
            "ServiceError: client error (Connect): connection refused"
        );
    }
}
