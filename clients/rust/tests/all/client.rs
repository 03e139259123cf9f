//! Calls, errors, repetition, batches, secrets.

use std::time::Duration;

use keyfence::testing::{FakeServer, TOKEN, error, keyspace};
use keyfence::{Batching, Check, Client, Code, Error, Reason, Secret, Verdict, v1};

const CHECK: &str = "/keyfence.v1.AuthorizationService/CheckScope";
const BATCH: &str = "/keyfence.v1.AuthorizationService/BatchCheckScope";
const CREATE: &str = "/keyfence.v1.KeyService/CreateKey";
const UPDATE: &str = "/keyfence.v1.KeyService/UpdateKey";

fn demo() -> FakeServer {
    FakeServer::start([keyspace("demo", &["vps:read", "vps:write"])])
}

fn unavailable() -> tonic::Status {
    error(Code::Unavailable, "SHUTTING_DOWN", "the server stops", &[])
}

#[tokio::test]
async fn a_denial_is_a_verdict_and_no_error() {
    let server = demo();
    let client = server.client();
    let made = server.create_key("demo", &["vps:read"]).await;
    let check = Check::key(&made.api_key).keyspace("demo");
    let good = client.check_scope(check.scopes(&["vps:read"])).await.unwrap();
    assert!(good.allowed && good.reason == Reason::Ok);
    assert_eq!(good.principal.unwrap().account_id, "acct_1");
    let poor = client.check_scope(check.scopes(&["vps:write", "vps:read"])).await.unwrap();
    assert!(!poor.allowed && poor.reason == Reason::ScopeMissing);
    assert_eq!(poor.missing_scopes, ["vps:write"]);
    assert!(client.authenticate(check).await.unwrap().allowed);
    server.revoke_key(&made.key.unwrap().key_id).await;
    assert_eq!(client.authenticate(check).await.unwrap().reason, Reason::KeyRevoked);
    assert!(!Verdict::default().allowed);
}

#[tokio::test]
async fn a_timeout_that_no_clock_can_count_to_is_a_long_one() {
    let server = demo();
    let made = server.create_key("demo", &["vps:read"]).await;
    let check = Check::key(&made.api_key).scopes(&["vps:read"]);
    let patient = server.builder().check_timeout(Duration::MAX).timeout(Duration::MAX).build().unwrap();
    assert!(patient.check_scope(check).await.unwrap().allowed);
    let batched = server.builder().batching(Batching::default()).build().unwrap().with_timeout(Duration::MAX);
    assert!(batched.check_scope(check).await.unwrap().allowed);
}

#[tokio::test]
async fn the_fake_knows_networks() {
    let server = demo();
    let client = server.client();
    let request = v1::CreateKeyRequest {
        keyspace: "demo".to_owned(),
        allowed_addresses: vec!["10.0.0.0/8".to_owned(), "2001:db8::1".to_owned()],
        ..v1::CreateKeyRequest::default()
    };
    let made = client.keys().create_key(request).await.unwrap();
    for (address, is_allowed) in [
        ("10.1.2.3", true),
        ("::ffff:10.1.2.3", true),
        ("2001:db8::1", true),
        ("192.0.2.1", false),
        ("::a01:203", false),
        ("", false),
    ] {
        let verdict = client.authenticate(Check::key(&made.api_key).client_address(address)).await.unwrap();
        assert_eq!(verdict.allowed, is_allowed, "{address}");
    }
}

#[tokio::test]
async fn an_error_says_what_is_wrong_and_shows_no_secret() {
    let server = demo();
    let client = server.client();
    let made = server.create_key("demo", &["vps:read"]).await;
    let check = Check::key(&made.api_key).scopes(&["vps:raed"]).keyspace("demo");
    let failed = client.check_scope(check).await.unwrap_err();
    assert_eq!((failed.code(), failed.reason()), (Code::InvalidArgument, "UNKNOWN_SCOPE"));
    assert_eq!(failed.failed().unwrap().metadata["scope"], "vps:raed");
    assert!(!failed.is_transient());

    let telling = format!("what of {} and {TOKEN}", made.api_key);
    server.fail_next(CHECK, 1, error(Code::Internal, "INTERNAL", &telling, &[("key", &made.api_key)]));
    let failed = client.check_scope(Check::key(&made.api_key).scopes(&["vps:read"])).await.unwrap_err();
    let shown = format!("{failed} {failed:?}");
    assert!(
        shown.contains("(redacted)") && !shown.contains(&made.api_key) && !shown.contains(TOKEN),
        "{shown}"
    );

    let rejected = server.builder().token("kf_system_of_another_server_altogether").build().unwrap();
    let failed = rejected.who_am_i().await.unwrap_err();
    assert_eq!((failed.code(), failed.reason()), (Code::Unauthenticated, "CREDENTIAL_REJECTED"));
}

#[tokio::test]
async fn nothing_prints_a_key() {
    let server = demo();
    let made = server.create_key("demo", &["vps:read"]).await;
    let key = made.api_key.clone();
    let request = v1::CheckScopeRequest { api_key: key.clone(), ..Default::default() };
    let batch = v1::BatchCheckScopeRequest { checks: vec![request.clone()] };
    let client = server.builder().token(key.as_str()).build().unwrap();
    let log_in = v1::LogInRequest { password: key.clone(), ..Default::default() };
    let import = v1::KeyToImport {
        account_id: "acct_1".to_owned(),
        secret: Some(v1::key_to_import::Secret::ApiKey(key.clone())),
        ..Default::default()
    };
    for shown in [
        format!("{made:?}"),
        format!("{import:?} {:?}", import.secret),
        format!("{request:?}"),
        format!("{batch:#?}"),
        format!("{log_in:?}"),
        format!("{:?}", Check::key(&key)),
        format!("{:?}", Secret::from(key.as_str())),
        format!("{client:?}"),
        format!("{:?}", server.builder().token(key.as_str())),
        format!("{:?}", client.with_credential(key.as_str())),
    ] {
        assert!(!shown.contains(&key), "{shown}");
    }
    assert!(format!("{made:?}").contains("acct_1"), "the rest is shown");
}

#[tokio::test]
async fn what_may_be_repeated_is_repeated_within_its_deadline() {
    let server = demo();
    let client = server.client();
    let key = server.create_key("demo", &["vps:read"]).await.api_key;
    for status in [unavailable(), tonic::Status::cancelled("given up")] {
        server.fail_next(CHECK, 3, status);
        let before = server.calls(CHECK);
        assert!(client.check_scope(Check::key(&key).scopes(&["vps:read"])).await.unwrap().allowed);
        assert_eq!(server.calls(CHECK) - before, 4);
    }
    server.fail_next(CHECK, 100, unavailable());
    let before = server.calls(CHECK);
    let failed = client.check_scope(Check::key(&key).scopes(&["vps:read"])).await.unwrap_err();
    assert_eq!((failed.code(), failed.reason()), (Code::Unavailable, "SHUTTING_DOWN"));
    assert_eq!(server.calls(CHECK) - before, 4, "and not for ever");
    let hurried = client.with_timeout(Duration::from_millis(20));
    let before = server.calls(CHECK);
    hurried.check_scope(Check::key(&key).scopes(&["vps:read"])).await.unwrap_err();
    assert_eq!(server.calls(CHECK) - before, 1, "there was no time for another one");
}

#[tokio::test]
async fn a_key_is_made_once_and_an_update_is_sent_once() {
    let server = demo();
    let client = server.client();
    server.fail_next(CREATE, 2, unavailable());
    let request = v1::CreateKeyRequest { keyspace: "demo".to_owned(), ..Default::default() };
    let made = client.keys().create_key(request.clone()).await.unwrap();
    assert!(!made.api_key.is_empty());
    assert_eq!(server.calls(CREATE), 3);
    let twice = v1::CreateKeyRequest { request_id: "once-and-no-more".to_owned(), ..request };
    client.keys().create_key(twice.clone()).await.unwrap();
    assert_eq!(client.keys().create_key(twice).await.unwrap_err().reason(), "REQUEST_ALREADY_DONE");
    server.fail_next(UPDATE, 1, unavailable());
    let update = v1::UpdateKeyRequest { key: made.key, ..Default::default() };
    assert_eq!(client.keys().update_key(update).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(server.calls(UPDATE), 1);
}

#[tokio::test]
async fn calls_take_turns_among_the_servers_that_answer() {
    let (one, other) = (demo(), demo());
    let client = one.builder().address(other.target()).address("127.0.0.1:1").build().unwrap();
    for _ in 0..20 {
        let _ = client.check_scope(Check::key("kf_live_none").scopes(&["vps:read"])).await.unwrap();
    }
    assert!(one.calls(CHECK) >= 5 && other.calls(CHECK) >= 5, "{} {}", one.calls(CHECK), other.calls(CHECK));
    drop(one);
    for _ in 0..20 {
        let _ = client.check_scope(Check::key("kf_live_none").scopes(&["vps:read"])).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_an_error_of_the_call() {
    let client = Client::builder("127.0.0.1:1").token(TOKEN).build().unwrap();
    let failed = client.who_am_i().await.unwrap_err();
    assert_eq!(failed.code(), Code::Unavailable);
    assert!(failed.is_transient());
}

#[tokio::test]
async fn a_silent_server_ends_at_the_deadline() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::builder(listener.local_addr().unwrap().to_string()).token(TOKEN).build().unwrap();
    let hurried = client.with_timeout(Duration::from_millis(50));
    assert_eq!(hurried.who_am_i().await.unwrap_err().code(), Code::DeadlineExceeded);
    let hurried = hurried.authenticate(Check::key("kf_live_none")).await;
    assert_eq!(hurried.unwrap_err().code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn checks_at_the_same_time_share_messages() {
    let server = demo();
    let client = server.builder().batching(Batching::default().max_checks(16)).build().unwrap();
    let key = server.create_key("demo", &["vps:read"]).await.api_key;
    let mut checks = tokio::task::JoinSet::new();
    for number in 0..64 {
        let (client, key) = (client.clone(), key.clone());
        checks.spawn(async move {
            let scope = if number % 8 == 7 { "vps:raed" } else { "vps:read" };
            (scope, client.check_scope(Check::key(&key).scopes(&[scope])).await)
        });
    }
    while let Some(answered) = checks.join_next().await {
        match answered.unwrap() {
            ("vps:read", verdict) => assert!(verdict.unwrap().allowed),
            (_, verdict) => assert_eq!(verdict.unwrap_err().reason(), "UNKNOWN_SCOPE"),
        }
    }
    assert_eq!(server.calls(CHECK), 0);
    assert!((4..32).contains(&server.calls(BATCH)), "{}", server.calls(BATCH));
    let before = server.calls(BATCH);
    server.fail_next(BATCH, 100, error(Code::NotFound, "KEYSPACE_NOT_FOUND", "it is gone", &[]));
    let failed = client.check_scope(Check::key(&key).scopes(&["vps:read"])).await.unwrap_err();
    assert_eq!(failed.reason(), "KEYSPACE_NOT_FOUND");
    assert_eq!(server.calls(BATCH) - before, 1);
}

#[tokio::test]
async fn what_does_not_fit_a_batch_is_sent_alone() {
    let server = demo();
    let client = server.builder().batching(Batching::default()).build().unwrap();
    let long = format!("kf_live_{}", "a".repeat(2_000));
    assert!(!client.check_scope(Check::key(&long).scopes(&["vps:read"])).await.unwrap().allowed);
    assert_eq!((server.calls(CHECK), server.calls(BATCH)), (1, 0));

    let key = server.create_key("demo", &["vps:read"]).await.api_key;
    let left_out = error(Code::ResourceExhausted, "LIMIT_REACHED", "", &[("limit", "answer_bytes")]);
    server.fail_next(BATCH, 1, left_out);
    assert!(client.check_scope(Check::key(&key).scopes(&["vps:read"])).await.unwrap().allowed);
    assert_eq!((server.calls(CHECK), server.calls(BATCH)), (2, 1));
}

#[tokio::test]
async fn an_explicit_batch_answers_each_check_by_itself() {
    let server = demo();
    let client = server.client();
    let key = server.create_key("demo", &["vps:read"]).await.api_key;
    let checks = [["vps:read"], ["vps:write"], ["vps:raed"]];
    let checks: Vec<Check<'_>> = checks.iter().map(|scopes| Check::key(&key).scopes(scopes)).collect();
    let results = client.batch_check_scope(&checks).await.unwrap();
    assert!(results[0].as_ref().unwrap().allowed);
    assert_eq!(results[1].as_ref().unwrap().reason, Reason::ScopeMissing);
    assert_eq!(results[2].as_ref().unwrap_err().reason(), "UNKNOWN_SCOPE");
    assert!(client.batch_check_scope(&[]).await.is_err());
}

#[tokio::test]
async fn what_cannot_work_is_refused_before_it_is_sent() {
    let server = demo();
    let client = server.client();
    for misused in [
        client.check_scope(Check::key("kf_live_none")).await.map(|_| ()),
        client.authenticate(Check::key("kf_live_none").scopes(&["vps:read"])).await.map(|_| ()),
        client.with_credential("two words").who_am_i().await.map(|_| ()),
        server.builder().token("").build().map(|_| ()),
        server.builder().batching(Batching::default().max_checks(257)).build().map(|_| ()),
        server.builder().cache(keyfence::Cache::default().max_keys(0)).build().map(|_| ()),
        server.builder().timeout(Duration::ZERO).build().map(|_| ()),
        server.builder().address("keyfence.example").build().map(|_| ()),
    ] {
        assert!(matches!(misused, Err(Error::Invalid(_))), "{misused:?}");
    }
    client.close().await;
    assert!(matches!(client.clone().who_am_i().await, Err(Error::Closed)));
    client.close().await;
}

#[test]
fn without_a_runtime_there_is_no_client() {
    let error = Client::builder("localhost:1").build().unwrap_err();
    assert!(error.to_string().contains("tokio"), "{error}");
}

/// The first byte that a client sends to a listener.
async fn first_byte(listener: tokio::net::TcpListener, client: Client) -> u8 {
    let calling = tokio::spawn(async move { client.who_am_i().await });
    let (mut connection, _) = listener.accept().await.unwrap();
    let mut first = [0];
    tokio::io::AsyncReadExt::read_exact(&mut connection, &mut first).await.unwrap();
    calling.abort();
    first[0]
}

#[tokio::test]
async fn a_network_gets_tls_and_the_loopback_interface_none() {
    const HANDSHAKE: u8 = 0x16;
    for (host, change) in [
        // It leads to the loopback interface, and is no address of it.
        ("0.0.0.0", None),
        ("0.0.0.0", Some(false)),
        ("127.0.0.1", None),
        ("127.0.0.1", Some(true)),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = format!("{host}:{}", listener.local_addr().unwrap().port());
        let builder = Client::builder(target).token(TOKEN);
        let client = match change {
            None => builder.build(),
            Some(true) => builder.tls(keyfence::ClientTlsConfig::new()).build(),
            Some(false) => builder.insecure_plaintext().build(),
        };
        let is_tls = first_byte(listener, client.unwrap()).await == HANDSHAKE;
        assert_eq!(is_tls, change.unwrap_or(host == "0.0.0.0"), "{host} {change:?}");
    }
    let both =
        Client::builder("localhost:1").insecure_plaintext().tls(keyfence::ClientTlsConfig::new()).build();
    assert!(matches!(both, Err(Error::Invalid(_))));
}
