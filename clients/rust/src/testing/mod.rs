//! Helps to test programs that use the client: [`FakeServer`] is a Keyfence in memory that speaks
//! the same API over a real port, and [`Process`] is a real one.

mod process;
mod replication;
mod server;
mod services;

pub use process::Process;
pub use server::{FakeServer, TOKEN, error, keyspace};
