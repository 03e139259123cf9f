//! The fake server.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use prost::Message as _;
use tokio::runtime::Builder;
use tokio::sync::{Notify, oneshot};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Status};
use tower_layer::layer_fn;
use tower_service::Service;

use super::replication::Following;
use super::services::{self, Services};
use crate::errors::google;
use crate::options::lock;
use crate::v1::authorization_service_server::AuthorizationServiceServer;
use crate::v1::key_service_server::KeyServiceServer;
use crate::v1::keyspace_service_server::KeyspaceServiceServer;
use crate::v1::replication_service_server::ReplicationServiceServer;
use crate::v1::{self, Keyspace, Scope};
use crate::{Client, ClientBuilder};

/// The only credential that the fake takes. It may do everything.
pub const TOKEN: &str = "kf_system_fakefakefakefakefakefake";

const LEASE: Duration = Duration::from_secs(2);

/// A fake Keyfence. It knows keyspaces, scopes that imply each other, keys and their lifecycle, and
/// grants leases to caches, so that revocations hold as with a real one. It knows no key formats,
/// rate limits, accounts or audit log. It stops when it is dropped.
#[derive(Debug)]
pub struct FakeServer {
    target: String,
    fake: Arc<Fake>,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
}

/// The state behind the services.
#[derive(Debug)]
pub(super) struct Fake {
    pub(super) state: Mutex<State>,
    /// Something was acknowledged, or a lease has ended.
    pub(super) moved: Notify,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) revision: i64,
    pub(super) epoch: String,
    pub(super) ttl: Duration,
    pub(super) keyspaces: BTreeMap<String, Keyspace>,
    /// By plaintext.
    pub(super) keys: HashMap<String, v1::Key>,
    /// By request id.
    pub(super) requests: HashMap<String, String>,
    pub(super) followers: HashMap<u64, Following>,
    pub(super) next_follower: u64,
    failures: Vec<Failure>,
    calls: HashMap<String, usize>,
    pub(super) uses: HashMap<String, i64>,
}

#[derive(Debug)]
struct Failure {
    path: String,
    status: Status,
    times: usize,
}

/// Declares a keyspace whose scopes imply nothing.
#[must_use]
pub fn keyspace(name: &str, scopes: &[&str]) -> Keyspace {
    let scopes = scopes.iter().map(|&name| Scope { name: name.to_owned(), ..Scope::default() });
    Keyspace { name: name.to_owned(), scopes: scopes.collect(), ..Keyspace::default() }
}

/// Makes an error as Keyfence answers it.
#[must_use]
pub fn error(code: Code, reason: &str, message: &str, metadata: &[(&str, &str)]) -> Status {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let info = google::ErrorInfo {
        reason: reason.to_owned(),
        domain: "keyfence".to_owned(),
        metadata: metadata.iter().map(owned).collect(),
    };
    let detail = prost_types::Any {
        type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(),
        value: info.encode_to_vec(),
    };
    let status = google::Status { code: code as i32, message: message.to_owned(), details: vec![detail] };
    Status::with_details(code, message, status.encode_to_vec().into())
}

impl FakeServer {
    /// Starts a fake with these keyspaces, on a port that the system chooses.
    ///
    /// # Panics
    ///
    /// If it cannot be started: it is for tests.
    pub fn start(keyspaces: impl IntoIterator<Item = Keyspace>) -> Self {
        let keyspaces: BTreeMap<_, _> = keyspaces.into_iter().map(|one| (one.name.clone(), one)).collect();
        let fake = Arc::new(Fake {
            state: Mutex::new(State {
                revision: i64::try_from(keyspaces.len()).expect("few keyspaces"),
                epoch: "1".to_owned(),
                ttl: LEASE,
                keyspaces,
                keys: HashMap::new(),
                requests: HashMap::new(),
                followers: HashMap::new(),
                next_follower: 0,
                failures: Vec::new(),
                calls: HashMap::new(),
                uses: HashMap::new(),
            }),
            moved: Notify::new(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback interface has a free port");
        let target = listener.local_addr().expect("a listener has an address").to_string();
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&fake);
        // On a runtime of its own, which takes all connections with it when it ends.
        let serving = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
            runtime.block_on(serve(served, listener, stopped));
        });
        Self { target, fake, stop: Some(stop), serving: Some(serving) }
    }

    /// The server's address, for [`Client::builder`].
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Sets up a client of the fake.
    pub fn builder(&self) -> ClientBuilder {
        Client::builder(&self.target).token(TOKEN)
    }

    /// A client of the fake.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn client(&self) -> Client {
        self.builder().build().expect("the client is set up well")
    }

    /// Makes a key of account `acct_1`. Its plaintext is in `api_key`.
    ///
    /// # Panics
    ///
    /// If the keyspace is not there.
    pub async fn create_key(&self, keyspace: &str, scopes: &[&str]) -> v1::CreateKeyResponse {
        let request = v1::CreateKeyRequest {
            keyspace: keyspace.to_owned(),
            account_id: "acct_1".to_owned(),
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
            ..v1::CreateKeyRequest::default()
        };
        services::create_key(&self.fake, request).await.expect("the keyspace is there")
    }

    /// Revokes a key. When it returns, no cache accepts the key.
    ///
    /// # Panics
    ///
    /// If the key is not there.
    pub async fn revoke_key(&self, key_id: &str) {
        services::revoke_key(&self.fake, key_id).await.expect("the key is there");
    }

    /// Makes the next calls of an RPC fail, for example of
    /// `/keyfence.v1.AuthorizationService/CheckScope`.
    pub fn fail_next(&self, path: &str, times: usize, status: Status) {
        lock(&self.fake.state).failures.push(Failure { path: path.to_owned(), status, times });
    }

    /// How often an RPC was called.
    #[must_use]
    pub fn calls(&self, path: &str) -> usize {
        lock(&self.fake.state).calls.get(path).copied().unwrap_or(0)
    }

    /// How many uses of a key caches have reported.
    #[must_use]
    pub fn uses(&self, key_id: &str) -> i64 {
        lock(&self.fake.state).uses.get(key_id).copied().unwrap_or(0)
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(serving) = self.serving.take() {
            // A fake that has panicked is noticed by its clients.
            let _ = serving.join();
        }
    }
}

async fn serve(fake: Arc<Fake>, listener: TcpListener, stopped: oneshot::Receiver<()>) {
    listener.set_nonblocking(true).expect("a listener can be asked without waiting");
    let listener = tokio::net::TcpListener::from_std(listener).expect("the runtime takes a listener");
    let services = || Services(Arc::clone(&fake));
    let admitting = Arc::clone(&fake);
    let serving = Server::builder()
        .layer(layer_fn(move |inner| Admitting { fake: Arc::clone(&admitting), inner }))
        .add_service(AuthorizationServiceServer::new(services()))
        .add_service(KeyServiceServer::new(services()))
        .add_service(KeyspaceServiceServer::new(services()))
        .add_service(ReplicationServiceServer::new(services()))
        .serve_with_incoming(TcpIncoming::from(listener));
    tokio::select! {
        // A fake that cannot serve is noticed by its clients.
        _ = serving => {}
        _ = stopped => {}
    }
}

/// Counts calls, makes those fail that are to, and wants the credential.
#[derive(Clone)]
struct Admitting<S> {
    fake: Arc<Fake>,
    inner: S,
}

impl<S, B, R> Service<http::Request<B>> for Admitting<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>>,
    S::Future: Send + 'static,
    R: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        match self.fake.admit(request.uri().path(), request.headers()) {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(status) => Box::pin(async move { Ok(status.into_http()) }),
        }
    }
}

impl Fake {
    fn admit(&self, path: &str, headers: &http::HeaderMap) -> Result<(), Status> {
        let mut state = lock(&self.state);
        *state.calls.entry(path.to_owned()).or_default() += 1;
        if let Some(failure) = state.failures.iter_mut().find(|one| one.path == path && one.times > 0) {
            failure.times -= 1;
            return Err(failure.status.clone());
        }
        let mut presented = headers.get_all("authorization").iter();
        match (presented.next(), presented.next()) {
            (None, _) => Err(error(
                Code::Unauthenticated,
                "CREDENTIAL_REQUIRED",
                "the call carries no credential",
                &[],
            )),
            (Some(value), None) if value.as_bytes() == format!("Bearer {TOKEN}").as_bytes() => Ok(()),
            _ => Err(error(
                Code::Unauthenticated,
                "CREDENTIAL_REJECTED",
                "the credential is not good; use keyfence::testing::TOKEN",
                &[],
            )),
        }
    }
}

pub(super) fn now() -> prost_types::Timestamp {
    SystemTime::now().into()
}
