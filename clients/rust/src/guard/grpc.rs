//! The guard for tonic services.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Extensions, HeaderMap, Request, Response};
use tonic::Status;
use tower_layer::Layer;
use tower_service::Service;

use super::declared::{Declared, Rule};
use super::{ClientAddress, ask, bearer, need_keyspace, other_end, unregistered, verified};
use crate::{Client, Error, Principal, Reason, Verdict};

/// Enforces what the protos of gRPC services declare: `required_scope`, or `ACCESS_ANY_CREDENTIAL`. A
/// method that declares nothing and is not unguarded is refused to all.
///
/// The key comes as `authorization: Bearer ...` or `x-api-key`; exactly one is accepted. A stream is
/// checked when it begins, and goes on if its key is revoked later. A handler reads whose key it was
/// by [`super::principal_of`].
#[derive(Clone)]
pub struct GrpcGuard {
    client: Client,
    keyspace: String,
    declared: Declared,
    unguarded: HashSet<String>,
    client_address: ClientAddress,
    hide_missing_scopes: bool,
}

impl fmt::Debug for GrpcGuard {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("GrpcGuard").field("keyspace", &self.keyspace).finish_non_exhaustive()
    }
}

impl GrpcGuard {
    /// A guard that accepts keys of a keyspace, and knows the services of a descriptor set with its
    /// imports: what `protoc --include_imports --descriptor_set_out`, `buf build` or tonic's
    /// `file_descriptor_set_path` writes.
    pub fn new(client: Client, keyspace: impl Into<String>, descriptor_set: &[u8]) -> Result<Self, Error> {
        let keyspace = keyspace.into();
        need_keyspace(&keyspace)?;
        let mut declared = Declared::default();
        declared.read(descriptor_set)?;
        Ok(Self {
            client,
            keyspace,
            declared,
            unguarded: HashSet::new(),
            client_address: Arc::new(other_end),
            hide_missing_scopes: false,
        })
    }

    /// Leaves a method (`/package.Service/Method`) or a whole service (`package.Service`) open to all
    /// callers.
    #[must_use]
    pub fn unguarded(mut self, name: impl Into<String>) -> Self {
        self.unguarded.insert(name.into());
        self
    }

    /// Tells where a call comes from, for keys with an allow-list. Without it: the other end of the
    /// connection, which behind a proxy is the proxy.
    #[must_use]
    pub fn client_address(
        mut self,
        find: impl Fn(&HeaderMap, &Extensions) -> Option<IpAddr> + Send + Sync + 'static,
    ) -> Self {
        self.client_address = Arc::new(find);
        self
    }

    /// Leaves out of the answer which scopes a key lacks.
    #[must_use]
    pub fn hide_missing_scopes(mut self) -> Self {
        self.hide_missing_scopes = true;
        self
    }

    /// Says what is wrong with the services of the descriptor set: methods that declare nothing, and
    /// scopes that the keyspace does not register. Call it before serving.
    pub async fn verify(&self) -> Result<(), Error> {
        let mut wrong = Vec::new();
        let mut scopes = BTreeSet::new();
        for (path, rule) in self.declared.all().filter(|(path, _)| !self.is_unguarded(path)) {
            match rule {
                Rule::Undeclared => {
                    wrong.push(format!("{path} declares no required_scope and is not unguarded"));
                }
                Rule::Scope(scope) => {
                    scopes.insert(scope.clone());
                }
                Rule::AnyCredential => {}
            }
        }
        wrong.sort();
        wrong.extend(unregistered(&self.client, &self.keyspace, &scopes).await?);
        verified(&wrong)
    }

    /// The layer to put around services: `Server::builder().layer(guard.layer())`.
    #[must_use]
    pub fn layer(self) -> GrpcGuardLayer {
        GrpcGuardLayer(Arc::new(self))
    }

    fn is_unguarded(&self, path: &str) -> bool {
        let service = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        self.unguarded.contains(path) || self.unguarded.contains(service)
    }

    /// Whose key the call was made with; `None`: it needs none.
    async fn admit(&self, call: &Call) -> Result<Option<Arc<Principal>>, Status> {
        if self.is_unguarded(&call.path) {
            return Ok(None);
        }
        let scopes = match self.declared.rule(&call.path) {
            Rule::Scope(scope) => std::slice::from_ref(scope),
            Rule::AnyCredential => &[],
            Rule::Undeclared => {
                tracing::error!(
                    method = call.path,
                    cause = "it declares no required_scope",
                    "method_refused_to_all"
                );
                return Err(Status::permission_denied("this method is not open to callers"));
            }
        };
        let key = call.key.as_deref().ok_or_else(no_good_key)?;
        match ask(&self.client, &self.keyspace, key, scopes, call.address).await {
            Ok(verdict) => self.conclude(verdict).map(Some),
            Err(error) => {
                tracing::error!(method = call.path, cause = %error, "no_verdict");
                Err(if error.is_transient() {
                    Status::unavailable("authorization is unavailable at the moment; try again")
                } else {
                    Status::internal("authorization is not set up correctly")
                })
            }
        }
    }

    fn conclude(&self, verdict: Verdict) -> Result<Arc<Principal>, Status> {
        match (verdict.reason, verdict.principal) {
            (Reason::Ok, Some(principal)) if verdict.allowed => Ok(principal),
            (Reason::ScopeMissing, _) if self.hide_missing_scopes => {
                Err(Status::permission_denied("the API key lacks a required scope"))
            }
            (Reason::ScopeMissing, _) => {
                let missing = verdict.missing_scopes.join(", ");
                Err(Status::permission_denied(format!("the API key lacks: {missing}")))
            }
            (Reason::RateLimited, _) => Err(Status::resource_exhausted("too many requests")),
            _ => Err(no_good_key()),
        }
    }
}

/// One answer for a key that is missing, malformed, unknown, revoked, expired, disabled or used from
/// a wrong address: the answer must not tell which keys exist.
fn no_good_key() -> Status {
    Status::unauthenticated("a valid API key is required")
}

/// What is read of a call before it is asked about.
struct Call {
    path: String,
    key: Option<String>,
    address: Option<IpAddr>,
}

/// The one key of a call; `None`: there is none, or more than one. Where a gateway and a service
/// read different credentials, one of the two guards nothing.
fn presented_key(headers: &HeaderMap) -> Option<String> {
    let bearers: Vec<_> = headers.get_all("authorization").iter().collect();
    let plain: Vec<_> = headers.get_all("x-api-key").iter().collect();
    match (bearers.as_slice(), plain.as_slice()) {
        ([header], []) => bearer(header.to_str().ok()?).map(str::to_owned),
        ([], [header]) => header.to_str().ok().filter(|key| !key.is_empty()).map(str::to_owned),
        _ => None,
    }
}

/// Puts a [`GrpcGuard`] around services.
#[derive(Clone, Debug)]
pub struct GrpcGuardLayer(Arc<GrpcGuard>);

impl<S> Layer<S> for GrpcGuardLayer {
    type Service = GrpcGuardService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        GrpcGuardService { guard: Arc::clone(&self.0), inner }
    }
}

/// A service behind a [`GrpcGuard`].
#[derive(Clone, Debug)]
pub struct GrpcGuardService<S> {
    guard: Arc<GrpcGuard>,
    inner: S,
}

impl<S: tonic::server::NamedService> tonic::server::NamedService for GrpcGuardService<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B, R> Service<Request<B>> for GrpcGuardService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let guard = Arc::clone(&self.guard);
        // The one that is ready goes; a clone waits for the next call.
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        let call = Call {
            path: request.uri().path().to_owned(),
            key: presented_key(request.headers()),
            address: (guard.client_address)(request.headers(), request.extensions()),
        };
        Box::pin(async move {
            match guard.admit(&call).await {
                Ok(principal) => {
                    if let Some(principal) = principal {
                        request.extensions_mut().insert(principal);
                    }
                    inner.call(request).await
                }
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}
