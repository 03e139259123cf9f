//! The guard for tonic services, around a service of the API that stands for a user's own.

use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;

use keyfence::guard::{GrpcGuard, principal_of};
use keyfence::testing::{FakeServer, error, keyspace};
use keyfence::v1::replication_service_server::{ReplicationService, ReplicationServiceServer};
use keyfence::{Client, Code, v1};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio_stream::Stream;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

const CHECK: &str = "/keyfence.v1.AuthorizationService/CheckScope";
const SERVICE: &str = "keyfence.v1.ReplicationService";

#[derive(Clone, PartialEq, prost::Message)]
struct Set {
    #[prost(message, repeated, tag = "1")]
    files: Vec<File>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct File {
    #[prost(string, tag = "2")]
    package: String,
    #[prost(message, repeated, tag = "6")]
    services: Vec<Service>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Service {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    methods: Vec<Method>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Method {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "4")]
    options: Option<Options>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Options {
    #[prost(string, tag = "51701")]
    required_scope: String,
    #[prost(int32, tag = "51702")]
    access: i32,
}

/// `Sync` needs a scope, `ListReplicas` any good key, and `FetchFacts` declares nothing.
fn descriptor_set(scope: &str) -> Vec<u8> {
    let method = |name: &str, options| Method { name: name.to_owned(), options };
    let any = v1::Access::AnyCredential as i32;
    let methods = vec![
        // The stricter of two counts.
        method("Sync", Some(Options { required_scope: scope.to_owned(), access: any })),
        method("ListReplicas", Some(Options { required_scope: String::new(), access: any })),
        method("FetchFacts", None),
    ];
    let services = vec![Service { name: "ReplicationService".to_owned(), methods }];
    Set { files: vec![File { package: "keyfence.v1".to_owned(), services }] }.encode_to_vec()
}

struct Guarded;

fn whose<T>(request: &Request<T>) -> String {
    principal_of(request).map(|principal| principal.account_id.clone()).unwrap_or_default()
}

#[tonic::async_trait]
impl ReplicationService for Guarded {
    type SyncStream = Pin<Box<dyn Stream<Item = Result<v1::SyncResponse, Status>> + Send>>;

    async fn sync(
        &self,
        request: Request<Streaming<v1::SyncRequest>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        assert_eq!(whose(&request), "acct_1");
        let answer = vec![Ok(v1::SyncResponse::default()); 2];
        Ok(Response::new(Box::pin(tokio_stream::iter(answer))))
    }

    async fn list_replicas(
        &self,
        request: Request<v1::ListReplicasRequest>,
    ) -> Result<Response<v1::ListReplicasResponse>, Status> {
        let replica = v1::Replica { account_id: whose(&request), ..Default::default() };
        Ok(Response::new(v1::ListReplicasResponse { replicas: vec![replica], ..Default::default() }))
    }

    async fn fetch_facts(
        &self,
        _request: Request<v1::FetchFactsRequest>,
    ) -> Result<Response<v1::FetchFactsResponse>, Status> {
        Ok(Response::new(v1::FetchFactsResponse::default()))
    }

    async fn fetch_keyspaces(
        &self,
        _request: Request<v1::FetchKeyspacesRequest>,
    ) -> Result<Response<v1::FetchKeyspacesResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn report_uses(
        &self,
        _request: Request<v1::ReportUsesRequest>,
    ) -> Result<Response<v1::ReportUsesResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

fn demo() -> FakeServer {
    FakeServer::start([keyspace("demo", &["vps:read", "vps:write"])])
}

fn guard(server: &FakeServer) -> GrpcGuard {
    GrpcGuard::new(server.client(), "demo", &descriptor_set("vps:read")).unwrap()
}

/// Starts the guarded service.
async fn serve(guard: GrpcGuard) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap().to_string();
    let serving = Server::builder()
        .layer(guard.layer())
        .add_service(ReplicationServiceServer::new(Guarded))
        .serve_with_incoming(TcpIncoming::from(listener));
    tokio::spawn(serving);
    target
}

async fn stream(target: &str, headers: &[(&'static str, &str)]) -> Result<usize, Status> {
    let channel: Channel =
        Endpoint::from_shared(format!("http://{target}")).unwrap().connect().await.unwrap();
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let mut request = Request::new(tokio_stream::iter([v1::SyncRequest::default()]));
    for (name, value) in headers {
        request.metadata_mut().append(*name, value.parse().unwrap());
    }
    let codec = ProstCodec::<v1::SyncRequest, v1::SyncResponse>::default();
    let path = PathAndQuery::from_static("/keyfence.v1.ReplicationService/Sync");
    let mut messages = grpc.streaming(request, path, codec).await?.into_inner();
    let mut count = 0;
    while messages.message().await?.is_some() {
        count += 1;
    }
    Ok(count)
}

async fn account_of(target: &str, key: &str) -> Result<String, keyfence::Error> {
    let client = Client::builder(target).token(key).build()?;
    let response = client.replication().list_replicas(v1::ListReplicasRequest::default()).await?;
    Ok(response.replicas[0].account_id.clone())
}

#[tokio::test]
async fn an_rpc_is_guarded_as_its_proto_declares() {
    let server = demo();
    let target = serve(guard(&server)).await;
    let good = server.create_key("demo", &["vps:read"]).await;
    let poor = server.create_key("demo", &["vps:write"]).await;
    assert_eq!(account_of(&target, &poor.api_key).await.unwrap(), "acct_1");
    assert_eq!(stream(&target, &[("x-api-key", &good.api_key)]).await.unwrap(), 2);
    let lacks = stream(&target, &[("x-api-key", &poor.api_key)]).await.unwrap_err();
    assert_eq!((lacks.code(), lacks.message()), (Code::PermissionDenied, "the API key lacks: vps:read"));

    let client = Client::builder(&target).token(good.api_key.as_str()).build().unwrap();
    let closed = client.replication().fetch_facts(v1::FetchFactsRequest::default()).await.unwrap_err();
    assert_eq!(closed.code(), Code::PermissionDenied, "it declares nothing");

    server.revoke_key(&good.key.unwrap().key_id).await;
    assert_eq!(account_of(&target, &good.api_key).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn of_two_credentials_none_is_chosen() {
    let server = demo();
    let target = serve(guard(&server)).await;
    let key = server.create_key("demo", &["vps:read"]).await.api_key;
    let bearer = format!("Bearer {key}");
    assert_eq!(stream(&target, &[("authorization", &bearer)]).await.unwrap(), 2);
    for headers in [
        &[][..],
        &[("authorization", bearer.as_str()), ("x-api-key", &key)],
        &[("x-api-key", &key), ("x-api-key", &key)],
        &[("authorization", &bearer), ("authorization", &bearer)],
        &[("authorization", &key)],
        &[("authorization", "Bearer ")],
        &[("x-api-key", "kf_live_unknown")],
    ] {
        let refused = stream(&target, headers).await.unwrap_err();
        assert_eq!(
            (refused.code(), refused.message()),
            (Code::Unauthenticated, "a valid API key is required")
        );
    }
}

#[tokio::test]
async fn what_is_unguarded_is_open_and_what_is_hidden_is_not_told() {
    let server = demo();
    let target = serve(guard(&server).unguarded(SERVICE)).await;
    assert_eq!(account_of(&target, "kf_live_unknown").await.unwrap(), "", "it has no principal");
    let target = serve(guard(&server).hide_missing_scopes()).await;
    let poor = server.create_key("demo", &["vps:write"]).await.api_key;
    let lacks = stream(&target, &[("x-api-key", &poor)]).await.unwrap_err();
    assert_eq!(lacks.message(), "the API key lacks a required scope");
}

#[tokio::test]
async fn a_key_is_for_its_addresses() {
    let server = demo();
    let client = server.client();
    let made = server.create_key("demo", &["vps:read"]).await;
    let key = v1::Key { allowed_addresses: vec!["10.0.0.1".to_owned()], ..made.key.unwrap() };
    let update = v1::UpdateKeyRequest {
        key: Some(key),
        update_mask: Some(prost_types::FieldMask { paths: vec!["allowed_addresses".to_owned()] }),
        ..Default::default()
    };
    client.keys().update_key(update).await.unwrap();
    let target = serve(guard(&server)).await;
    assert!(account_of(&target, &made.api_key).await.is_err(), "the other end is the loopback interface");
    let behind = |_: &_, _: &_| Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));
    let target = serve(guard(&server).client_address(behind)).await;
    assert_eq!(account_of(&target, &made.api_key).await.unwrap(), "acct_1");
}

#[tokio::test]
async fn where_nothing_was_decided_nothing_is_denied() {
    let server = demo();
    let target = serve(guard(&server)).await;
    server.fail_next(CHECK, 4, error(Code::Unavailable, "SHUTTING_DOWN", "it stops", &[]));
    assert_eq!(stream(&target, &[("x-api-key", "kf_live_one")]).await.unwrap_err().code(), Code::Unavailable);
    server.fail_next(CHECK, 1, error(Code::PermissionDenied, "SCOPE_REQUIRED", "keys:check", &[]));
    assert_eq!(stream(&target, &[("x-api-key", "kf_live_one")]).await.unwrap_err().code(), Code::Internal);
}

#[tokio::test]
async fn a_service_that_is_declared_badly_is_found_at_the_start() {
    let server = demo();
    let wrong = guard(&server).verify().await.unwrap_err().to_string();
    assert!(wrong.contains("FetchFacts declares no required_scope"), "{wrong}");
    guard(&server).unguarded(format!("/{SERVICE}/FetchFacts")).verify().await.unwrap();
    let other = GrpcGuard::new(server.client(), "demo", &descriptor_set("vps:raed")).unwrap();
    let wrong = other.unguarded(format!("/{SERVICE}/FetchFacts")).verify().await.unwrap_err().to_string();
    assert!(wrong.contains("vps:raed"), "{wrong}");
    assert!(GrpcGuard::new(server.client(), "demo", b"\xff\xff").is_err());
    assert!(GrpcGuard::new(server.client(), "", &descriptor_set("vps:read")).is_err());
}
