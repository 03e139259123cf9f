//! Checks from memory, under a lease of the fake.

use std::time::Duration;

use keyfence::testing::{FakeServer, keyspace};
use keyfence::{Batching, Cache, Check, Client, Reason};

use crate::until;

const CHECK: &str = "/keyfence.v1.AuthorizationService/CheckScope";
const FACTS: &str = "/keyfence.v1.ReplicationService/FetchFacts";
const SYNC: &str = "/keyfence.v1.ReplicationService/Sync";

fn demo() -> FakeServer {
    FakeServer::start([keyspace("another", &["a:b"]), keyspace("demo", &["vps:read", "vps:write"])])
}

async fn cached(server: &FakeServer) -> Client {
    let client = server.builder().cache(Cache::default()).batching(Batching::default()).build().unwrap();
    until("the cache has a lease", async || {
        let _ = client.authenticate(Check::key("kf_live_none")).await.unwrap();
        client.cache_status().unwrap().is_live
    })
    .await;
    client
}

#[tokio::test]
async fn a_revoked_key_is_never_answered_from_memory() {
    let server = demo();
    let client = cached(&server).await;
    for _ in 0..30 {
        let made = server.create_key("demo", &["vps:read"]).await;
        let check = Check::key(&made.api_key).scopes(&["vps:read"]).keyspace("demo");
        let before = server.calls(CHECK);
        for _ in 0..5 {
            assert!(client.check_scope(check).await.unwrap().allowed);
        }
        assert_eq!(server.calls(CHECK), before, "the server was asked for facts alone");
        server.revoke_key(&made.key.unwrap().key_id).await;
        let verdict = client.check_scope(check).await.unwrap();
        assert!(!verdict.allowed && verdict.reason == Reason::KeyRevoked);
    }
    let status = client.cache_status().unwrap();
    assert!(status.hits >= 150 && status.keys == 30, "{status:?}");
    client.close().await;
}

#[tokio::test]
async fn a_missing_scope_is_told_from_memory_once_the_catalog_is_known() {
    let server = demo();
    let client = cached(&server).await;
    let key = server.create_key("demo", &["vps:read"]).await.api_key;
    let check = Check::key(&key).scopes(&["vps:write"]);
    until("a denial comes from memory", async || {
        let before = client.cache_status().unwrap().hits;
        let verdict = client.check_scope(check).await.unwrap();
        assert_eq!(
            (verdict.reason, verdict.missing_scopes),
            (Reason::ScopeMissing, vec!["vps:write".to_owned()])
        );
        client.cache_status().unwrap().hits > before
    })
    .await;
    let unknown = client.check_scope(Check::key(&key).scopes(&["vps:raed"])).await.unwrap_err();
    assert_eq!(unknown.reason(), "UNKNOWN_SCOPE");
}

#[tokio::test]
async fn uses_are_reported_at_the_end() {
    let server = demo();
    let client = cached(&server).await;
    let made = server.create_key("demo", &["vps:read"]).await;
    for _ in 0..7 {
        let check = Check::key(&made.api_key).scopes(&["vps:read"]).client_address("10.0.0.1");
        assert!(client.check_scope(check).await.unwrap().allowed);
    }
    client.close().await;
    assert_eq!(server.uses(&made.key.unwrap().key_id), 7);
    assert!(!client.cache_status().unwrap().is_live);
}

#[tokio::test]
async fn another_credential_is_answered_by_the_server() {
    let server = demo();
    let client = cached(&server).await;
    let key = server.create_key("demo", &["vps:read"]).await.api_key;
    let check = Check::key(&key).scopes(&["vps:read"]);
    assert!(client.check_scope(check).await.unwrap().allowed);
    let other = client.with_credential("kf_system_of_another_server_altogether");
    assert_eq!(other.check_scope(check).await.unwrap_err().reason(), "CREDENTIAL_REJECTED");
}

#[tokio::test]
async fn without_a_server_the_lease_ends_and_checks_fail() {
    let server = demo();
    let client = cached(&server).await;
    let key = server.create_key("demo", &["vps:read"]).await.api_key;
    let check = Check::key(&key).scopes(&["vps:read"]);
    assert!(client.check_scope(check).await.unwrap().allowed);
    drop(server);
    let hurried = client.with_timeout(Duration::from_millis(100));
    until("the lease has ended", async || hurried.check_scope(check).await.is_err()).await;
    assert!(!client.cache_status().unwrap().is_live);
}

#[tokio::test]
async fn a_server_that_refuses_the_stream_answers_by_calls() {
    let server = demo();
    let refusal = keyfence::testing::error(keyfence::Code::PermissionDenied, "SCOPE_REQUIRED", "no", &[]);
    server.fail_next(SYNC, 1000, refusal);
    let client = server.builder().cache(Cache::default()).build().unwrap();
    let key = server.create_key("demo", &["vps:read"]).await.api_key;
    for _ in 0..10 {
        assert!(client.check_scope(Check::key(&key).scopes(&["vps:read"])).await.unwrap().allowed);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(server.calls(FACTS), 0, "facts are of no use without a lease");
    assert!(server.calls(SYNC) <= 2, "a refusal is not asked again at once");
    assert!(!client.cache_status().unwrap().is_live);
    client.close().await;
}

#[tokio::test]
async fn a_client_that_is_dropped_gives_its_stream_up() {
    let server = demo();
    let client = cached(&server).await;
    drop(client);
    let made = server.create_key("demo", &["vps:read"]).await;
    // No cache is waited for beyond its lease.
    tokio::time::timeout(Duration::from_secs(10), server.revoke_key(&made.key.unwrap().key_id))
        .await
        .unwrap();
}
