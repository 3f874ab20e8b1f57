//! Hub and agents as real processes on real API servers, under the roles of `deploy/`; faults come from proxies, from
//! scripted peers, and from killing what runs. Each test works in namespaces of its own.

mod audit;
mod authority;
mod drift;
mod edits;
mod endpoints;
mod enrolment;
mod flood;
mod frames;
mod grpcurl;
mod identity;
mod idle;
mod isolation;
mod mesh;
mod moves;
mod partitions;
mod processes;
mod raw_client;
mod rbac;
mod record;
mod recovery;
mod renewal;
mod restarts;
mod revocation;
mod rollover;
mod secrecy;
mod smoke;
mod twins;
mod validation;
mod x509;
