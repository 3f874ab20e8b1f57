//! Both charts as they are rendered, by Helm 3 and Helm 4, and the agent's as it lives on a real API server.

mod agent;
mod cases;
mod dry_run;
mod golden;
mod hub;
mod pages;
mod schema;
