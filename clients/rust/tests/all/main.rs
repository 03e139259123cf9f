//! The client against the fake server, a real one where it is installed, and in a project of its own.

mod cache;
mod client;
mod grpc_guard;
mod http_guard;
mod process;
mod readme;

use std::time::Duration;

/// Waits until something holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..3000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come to this: {what}");
}
