//! Hub and agents as real processes on real API servers, under the roles of `deploy/`; faults come from proxies, from
//! scripted peers, and from killing what runs. Each test works in namespaces of its own.

mod audit;
mod drift;
mod edits;
mod endpoints;
mod frames;
mod grpcurl;
mod identity;
mod idle;
mod mesh;
mod partitions;
mod processes;
mod raw_client;
mod rbac;
mod record;
mod restarts;
mod smoke;
mod validation;
