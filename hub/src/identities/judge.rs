//! The rule: whose certificate counts. Pure.

use std::time::SystemTime;

use remote_istio::tls::NotAdmitted;

use super::timestamp;
use crate::crd::RemoteIdentitySpec;

/// Judges a certificate of a remote by the record of its name. `not_before`: when the certificate began.
/// `unknown_allowed`: whether a remote without a record may connect.
///
/// # Errors
/// The certificate does not count.
pub fn judge(
    record: Option<&RemoteIdentitySpec>,
    not_before: SystemTime,
    unknown_allowed: bool,
) -> Result<(), NotAdmitted> {
    match record {
        None if unknown_allowed => Ok(()),
        None => Err(NotAdmitted::Unknown),
        // An earlier one is from before the last join: its bearer was replaced.
        Some(record) if record.revoked.is_some() || timestamp(not_before) < record.not_before.0 => {
            Err(NotAdmitted::Revoked)
        }
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::crd::Revocation;

    fn at(seconds: i64) -> Time {
        Time(Timestamp::from_second(seconds).expect("a time"))
    }

    fn record() -> RemoteIdentitySpec {
        RemoteIdentitySpec {
            cluster_uid: "c1".to_owned(),
            joined_at: at(2_000),
            key: String::new(),
            not_before: at(1_000),
            released: false,
            revoked: None,
        }
    }

    fn judged(record: Option<&RemoteIdentitySpec>, seconds: u64, unknown_allowed: bool) -> Result<(), NotAdmitted> {
        let not_before = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        judge(record, not_before, unknown_allowed)
    }

    #[test]
    fn certificate_counts_from_the_last_join_on() {
        assert_eq!(judged(Some(&record()), 999, false), Err(NotAdmitted::Revoked));
        assert_eq!(judged(Some(&record()), 1_000, false), Ok(()));
        assert_eq!(judged(Some(&record()), 5_000, false), Ok(()));
    }

    #[test]
    fn revoked_name_counts_no_more_wherever_its_certificate_comes_from() {
        let revoked = RemoteIdentitySpec {
            revoked: Some(Revocation {
                at: at(3_000),
                reason: String::new(),
            }),
            ..record()
        };
        for unknown_allowed in [false, true] {
            assert_eq!(
                judged(Some(&revoked), 5_000, unknown_allowed),
                Err(NotAdmitted::Revoked)
            );
        }
    }

    #[test]
    fn remote_without_a_record_is_let_in_only_where_certificates_come_from_elsewhere() {
        assert_eq!(judged(None, 5_000, false), Err(NotAdmitted::Unknown));
        assert_eq!(judged(None, 5_000, true), Ok(()));
    }

    #[test]
    fn released_name_serves_its_old_cluster_until_another_joins() {
        let released = RemoteIdentitySpec {
            released: true,
            ..record()
        };
        assert_eq!(judged(Some(&released), 1_000, false), Ok(()));
    }
}
