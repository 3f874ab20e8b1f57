//! What hub and agent do in their lives, once each, so that every right they have is used.

pub mod apart;
pub mod commands;
pub mod components;
pub mod everyday;
pub mod leaving;
pub mod mesh_trust;
