//! Installation: charts as they are rendered and as they live, bad inputs, and the rights that they grant.

mod charts;
mod inputs;
mod life;
mod rights;

/// The pair of the tests on clusters.
#[path = "../cluster"]
#[expect(dead_code, unused_imports, reason = "this binary uses a part of it")]
mod cluster {
    pub mod audit;
    pub mod mesh;
    pub mod record;
}
