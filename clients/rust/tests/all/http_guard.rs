//! The guard for HTTP services, around axum.

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, Response, StatusCode, header};
use axum::routing::get;
use axum::{Extension, Router};
use keyfence::guard::HttpGuard;
use keyfence::testing::{FakeServer, error, keyspace};
use keyfence::v1::{HttpAnswer, HttpAnswers, HttpCredentials};
use keyfence::{Code, Principal};
use serde_json::{Value, json};
use std::sync::Arc;
use tower::ServiceExt as _;

const CHECK: &str = "/keyfence.v1.AuthorizationService/CheckScope";

fn demo() -> FakeServer {
    FakeServer::start([keyspace("demo", &["vps:read", "vps:write"])])
}

/// An application whose handler says whose key it was, and which credentials it still sees.
fn application(guard: &HttpGuard) -> Router {
    let handler = |Extension(principal): Extension<Arc<Principal>>, headers: HeaderMap| async move {
        let seen = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        format!(
            "{} {:?} {:?} {:?}",
            principal.account_id,
            seen("authorization"),
            seen("x-api-key"),
            seen("cookie")
        )
    };
    Router::new().route("/servers", get(handler).layer(guard.require(&["vps:read"])))
}

fn guard(server: &FakeServer, answers: HttpAnswers) -> HttpGuard {
    HttpGuard::builder(server.client(), "demo").answers(answers).build().unwrap()
}

async fn ask(application: &Router, headers: &[(&str, &str)]) -> Response<Body> {
    let mut request = Request::get("/servers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    application.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn body(response: Response<Body>) -> String {
    String::from_utf8(to_bytes(response.into_body(), 10_000).await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn a_good_key_is_let_through_and_taken_off() {
    let server = demo();
    let application = application(&guard(&server, HttpAnswers::default()));
    let key = server.create_key("demo", &["vps:read"]).await.api_key;
    let response = ask(&application, &[("authorization", &format!("Bearer {key}")), ("cookie", "a=b")]).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(body(response).await, r#"acct_1 None None Some("a=b")"#);
    let response =
        ask(&application, &[("x-api-key", &key), ("authorization", &format!("bearer {key}"))]).await;
    assert_eq!(body(response).await, "acct_1 None None None", "the same key twice is one key");
}

#[tokio::test]
async fn a_refusal_speaks_as_rfc_6750() {
    let server = demo();
    let application = application(&guard(&server, HttpAnswers::default()));
    let poor = server.create_key("demo", &["vps:write"]).await.api_key;
    let good = server.create_key("demo", &["vps:read"]).await.api_key;
    let two = [("x-api-key", poor.as_str()), ("authorization", &format!("Bearer {good}"))];
    for headers in [
        &[][..],
        &[("authorization", "Basic abc")],
        &[("authorization", "Bearer kf_live_unknown")],
        &[("x-api-key", &format!("{good},{good}"))],
        &[("x-api-key", &good), ("x-api-key", &good)],
        &two,
    ] {
        let response = ask(&application, headers).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{headers:?}");
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], r#"Bearer realm="demo""#);
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
        let told: Value = serde_json::from_str(&body(response).await).unwrap();
        assert_eq!(told["error"], "invalid_token");
    }
    let response = ask(&application, &[("x-api-key", &poor)]).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert!(response.headers()[header::WWW_AUTHENTICATE].to_str().unwrap().contains("insufficient_scope"));
    let before = server.calls(CHECK);
    ask(&application, &[]).await;
    assert_eq!(server.calls(CHECK), before, "a request without a key costs the server nothing");
}

#[tokio::test]
async fn a_keyspace_speaks_in_its_own_words() {
    let server = demo();
    let answers = HttpAnswers {
        credentials: Some(HttpCredentials { bearer: false, headers: vec![], cookie: "key".to_owned() }),
        answers: vec![
            HttpAnswer {
                cause: "scope_missing".to_owned(),
                status: 404,
                code: "not {here}".to_owned(),
                message: "it needs {required_scopes}".to_owned(),
                ..HttpAnswer::default()
            },
            HttpAnswer { cause: "key_revoked".to_owned(), code: "gone".to_owned(), ..HttpAnswer::default() },
        ],
        content_type: "application/problem+json".to_owned(),
        body:
            r#"{"z": "{status}", "a": ["{missing_scopes}", "{{{code}}}", null, 1.5, true], "m": "{message}"}"#
                .to_owned(),
        rate_limit_headers: None,
    };
    let application = application(&guard(&server, answers));
    let poor = server.create_key("demo", &["vps:write"]).await;
    let cookie = format!("theme=dark; key={}", poor.api_key);
    let response = ask(&application, &[("cookie", &cookie)]).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    let told = body(response).await;
    let expected =
        json!({"z": 404, "a": [["vps:read"], "{not {here}}", null, 1.5, true], "m": "it needs vps:read"});
    assert_eq!(serde_json::from_str::<Value>(&told).unwrap(), expected);
    assert!(told.find("\"z\"") < told.find("\"a\""), "members keep their order: {told}");
    server.revoke_key(&poor.key.unwrap().key_id).await;
    let response = ask(&application, &[("cookie", &cookie)]).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert!(body(response).await.contains("{gone}"));
    let good = server.create_key("demo", &["vps:read"]).await.api_key;
    let response = ask(&application, &[("cookie", &format!("theme=dark; key={good}"))]).await;
    assert_eq!(body(response).await, r#"acct_1 None None Some("theme=dark")"#);
}

#[tokio::test]
async fn where_nothing_was_decided_nothing_is_denied() {
    let server = demo();
    let application = application(&guard(&server, HttpAnswers::default()));
    server.fail_next(CHECK, 4, error(Code::Unavailable, "SHUTTING_DOWN", "it stops", &[]));
    let response = ask(&application, &[("x-api-key", "kf_live_one")]).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    server.fail_next(CHECK, 1, error(Code::PermissionDenied, "SCOPE_REQUIRED", "keys:check", &[]));
    let response = ask(&application, &[("x-api-key", "kf_live_one")]).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn a_scope_that_is_not_registered_is_found_at_the_start() {
    let server = demo();
    let guard = guard(&server, HttpAnswers::default());
    let _ = guard.require(&["vps:read"]);
    guard.verify().await.unwrap();
    let _ = guard.require(&["vps:raed"]);
    assert!(guard.verify().await.unwrap_err().to_string().contains("vps:raed"));
    let broken = HttpAnswers { body: "{\"a\": \"{code\"}".to_owned(), ..HttpAnswers::default() };
    assert!(HttpGuard::builder(server.client(), "demo").answers(broken).build().is_err());
}
