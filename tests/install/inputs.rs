//! What people do wrong when they install: each time something is said that helps, and nothing is broken.

mod address;
mod families;
mod image;
mod old_server;
mod restricted;
mod rights;
mod token;
mod twice;
mod version;
