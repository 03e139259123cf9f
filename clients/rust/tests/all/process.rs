//! What the fake is believed about is asked of a real server, too.

use keyfence::testing::{Process, keyspace};
use keyfence::{Cache, Check, Code, Reason, v1};

use crate::until;

#[tokio::test]
async fn a_real_server_keeps_its_promise_to_the_cache() {
    let Some(process) = Process::start(&[]).await else { return };
    let operator = process.builder().build().unwrap();
    let declared = v1::ApplyKeyspaceRequest {
        keyspace: Some(keyspace("demo", &["vps:read", "vps:write"])),
        ..Default::default()
    };
    operator.keyspaces().apply_keyspace(declared).await.unwrap();
    let create = async |keyspace: &str, scope: &str, bound: &[&str]| {
        let request = v1::CreateKeyRequest {
            keyspace: keyspace.to_owned(),
            account_id: "acct_1".to_owned(),
            scopes: vec![scope.to_owned()],
            bound_keyspaces: bound.iter().map(|&name| name.to_owned()).collect(),
            ..Default::default()
        };
        operator.keys().create_key(request).await.unwrap()
    };
    let token = create("system", "replication:sync", &["demo"]).await.api_key;
    let client = process.builder().token(token).cache(Cache::default()).build().unwrap();
    until("the cache has a lease", async || {
        let _ = client.authenticate(Check::key("kf_live_unknown")).await;
        client.cache_status().unwrap().is_live
    })
    .await;
    for _ in 0..20 {
        let made = create("demo", "vps:read", &[]).await;
        let check = Check::key(&made.api_key).scopes(&["vps:read"]).keyspace("demo");
        for _ in 0..5 {
            assert!(client.check_scope(check).await.unwrap().allowed);
        }
        let key_id = made.key.unwrap().key_id;
        operator.keys().revoke_key(v1::RevokeKeyRequest { key_id, ..Default::default() }).await.unwrap();
        let verdict = client.check_scope(check).await.unwrap();
        assert!(!verdict.allowed && verdict.reason == Reason::KeyRevoked);
    }
    let status = client.cache_status().unwrap();
    assert!(status.hits >= 90, "checks were not answered from memory: {status:?}");
    let failed = client
        .check_scope(Check::key("kf_live_unknown").scopes(&["vps:raed"]).keyspace("demo"))
        .await
        .unwrap_err();
    assert_eq!(failed.code(), Code::InvalidArgument);
    assert!(!failed.failed().unwrap().request_id.is_empty());
    client.close().await;
}
