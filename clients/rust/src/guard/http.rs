//! The guard for HTTP services.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use http::header::{AUTHORIZATION, CACHE_CONTROL, COOKIE, HeaderName, HeaderValue};
use http::{Extensions, HeaderMap, Request, Response, StatusCode};
use tower_layer::Layer;
use tower_service::Service;

use super::answers::{Answers, Denial};
use super::{ClientAddress, ask, bearer, need_keyspace, other_end, unregistered, verified};
use crate::options::lock;
use crate::v1::{GetKeyspaceRequest, HttpAnswers};
use crate::{Client, Error, Principal, RateLimitStatus, Reason};

/// Guards HTTP services: see [`HttpGuard::require`].
#[derive(Clone, Debug)]
pub struct HttpGuard(Arc<Shared>);

struct Shared {
    client: Client,
    keyspace: String,
    answers: Answers,
    client_address: ClientAddress,
    scopes: Mutex<BTreeSet<String>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("HttpGuard").field("keyspace", &self.keyspace).finish_non_exhaustive()
    }
}

/// Sets a [`HttpGuard`] up.
#[must_use]
pub struct HttpGuardBuilder {
    client: Client,
    keyspace: String,
    answers: HttpAnswers,
    client_address: ClientAddress,
}

impl fmt::Debug for HttpGuardBuilder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("HttpGuardBuilder").field("keyspace", &self.keyspace).finish_non_exhaustive()
    }
}

impl HttpGuardBuilder {
    /// How the keyspace speaks HTTP: what it declares in its section `http`. Without it: as RFC 6750
    /// has it.
    pub fn answers(mut self, answers: HttpAnswers) -> Self {
        self.answers = answers;
        self
    }

    /// Asks the server how the keyspace speaks HTTP. The client's token needs the scope
    /// `keyspaces:read`.
    pub async fn fetch_answers(self) -> Result<Self, Error> {
        let request = GetKeyspaceRequest { name: self.keyspace.clone() };
        let keyspace = self.client.keyspaces().get_keyspace(request).await?.keyspace.unwrap_or_default();
        Ok(self.answers(keyspace.http.unwrap_or_default()))
    }

    /// Tells where a request comes from, for keys with an allow-list. Without it: a `SocketAddr` in
    /// the request's extensions, or the other end of a connection of tonic's server. Axum keeps the
    /// address in its own `ConnectInfo<SocketAddr>`.
    pub fn client_address(
        mut self,
        find: impl Fn(&HeaderMap, &Extensions) -> Option<IpAddr> + Send + Sync + 'static,
    ) -> Self {
        self.client_address = Arc::new(find);
        self
    }

    /// Makes the guard.
    pub fn build(self) -> Result<HttpGuard, Error> {
        need_keyspace(&self.keyspace)?;
        let answers = Answers::compile(&self.answers, &self.keyspace).map_err(|cause| {
            Error::invalid(format!("the HTTP answers of keyspace {:?}: {cause}", self.keyspace))
        })?;
        Ok(HttpGuard(Arc::new(Shared {
            client: self.client,
            keyspace: self.keyspace,
            answers,
            client_address: self.client_address,
            scopes: Mutex::default(),
        })))
    }
}

impl HttpGuard {
    /// Sets a guard up that accepts keys of a keyspace.
    pub fn builder(client: Client, keyspace: impl Into<String>) -> HttpGuardBuilder {
        HttpGuardBuilder {
            client,
            keyspace: keyspace.into(),
            answers: HttpAnswers::default(),
            client_address: Arc::new(other_end),
        }
    }

    /// A layer for services that need all of the scopes; without scopes, any good key. The key is
    /// taken off the request that the service gets, and [`super::principal`] tells whose it was.
    #[must_use]
    pub fn require(&self, scopes: &[&str]) -> HttpGuardLayer {
        let scopes: Arc<[String]> = scopes.iter().map(|&scope| scope.to_owned()).collect();
        lock(&self.0.scopes).extend(scopes.iter().cloned());
        HttpGuardLayer { shared: Arc::clone(&self.0), scopes }
    }

    /// Says which scopes that were required so far the keyspace does not register. Call it before
    /// serving.
    pub async fn verify(&self) -> Result<(), Error> {
        let scopes = lock(&self.0.scopes).clone();
        verified(&unregistered(&self.0.client, &self.0.keyspace, &scopes).await?)
    }
}

/// Puts an [`HttpGuard`] around services.
#[derive(Clone, Debug)]
pub struct HttpGuardLayer {
    shared: Arc<Shared>,
    scopes: Arc<[String]>,
}

impl<S> Layer<S> for HttpGuardLayer {
    type Service = HttpGuardService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        HttpGuardService { shared: Arc::clone(&self.shared), scopes: Arc::clone(&self.scopes), inner }
    }
}

/// A service behind an [`HttpGuard`].
#[derive(Clone, Debug)]
pub struct HttpGuardService<S> {
    shared: Arc<Shared>,
    scopes: Arc<[String]>,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for HttpGuardService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: From<String> + Send,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        let scopes = Arc::clone(&self.scopes);
        // The one that is ready goes; a clone waits for the next call.
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        let asked = Asked {
            address: (shared.client_address)(request.headers(), request.extensions()),
            request_id: request
                .headers()
                .get("x-request-id")
                .and_then(|id| id.to_str().ok())
                .map(str::to_owned),
            key: shared.take_credential(request.headers_mut()),
        };
        Box::pin(async move {
            match shared.admit(&asked, &scopes).await {
                Ok((principal, limit)) => {
                    request.extensions_mut().insert(principal);
                    let mut response = inner.call(request).await?;
                    if let Some(limit) = limit {
                        shared.answers.write_limit(response.headers_mut(), &limit);
                    }
                    Ok(response)
                }
                Err(refusal) => Ok(refusal.map(R::from)),
            }
        })
    }
}

/// What is read of a request before it is asked about.
struct Asked {
    address: Option<IpAddr>,
    request_id: Option<String>,
    /// Or why there is none.
    key: Result<String, Reason>,
}

type Admitted = (Arc<Principal>, Option<Box<RateLimitStatus>>);

impl Shared {
    async fn admit(&self, asked: &Asked, scopes: &[String]) -> Result<Admitted, Response<String>> {
        let denial = |reason| Denial {
            reason,
            missing_scopes: &[],
            required_scopes: scopes,
            rate_limit: None,
            request_id: asked.request_id.as_deref().unwrap_or_default(),
        };
        let key = match &asked.key {
            Ok(key) => key,
            // Decided here, so that requests without a key cost the server nothing.
            Err(reason) => return Err(self.answers.write(&denial(*reason))),
        };
        match ask(&self.client, &self.keyspace, key, scopes, asked.address).await {
            Err(error) => Err(undecided(&error)),
            Ok(verdict) => match verdict.principal {
                Some(principal) if verdict.allowed => Ok((principal, verdict.rate_limit)),
                _ => Err(self.answers.write(&Denial {
                    missing_scopes: &verdict.missing_scopes,
                    rate_limit: verdict.rate_limit.as_deref(),
                    ..denial(verdict.reason)
                })),
            },
        }
    }

    /// Takes the one credential off a request. Two that differ, a header or cookie twice, another
    /// scheme and a value with a comma are malformed: a program behind the guard might pick another
    /// one of them.
    fn take_credential(&self, headers: &mut HeaderMap) -> Result<String, Reason> {
        let places = &self.answers.credentials;
        let mut found: Vec<Option<String>> = Vec::new();
        let mut is_clear = true;
        let mut note = |values: Vec<Option<String>>| {
            is_clear &= values.len() <= 1;
            found.extend(values);
        };
        if places.bearer {
            let read = |header: &HeaderValue| header.to_str().ok().and_then(bearer).map(str::to_owned);
            note(headers.get_all(AUTHORIZATION).iter().map(read).collect());
            headers.remove(AUTHORIZATION);
        }
        for name in &places.headers {
            let read = |header: &HeaderValue| header.to_str().ok().map(str::to_owned);
            note(headers.get_all(name.as_str()).iter().map(read).collect());
            if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
                headers.remove(name);
            }
        }
        if !places.cookie.is_empty() {
            note(take_cookie(headers, &places.cookie));
        }
        let Some(first) = found.first() else { return Err(Reason::CredentialMissing) };
        match first {
            Some(key) if is_clear && !key.contains(',') && found.iter().all(|one| one == first) => {
                Ok(key.clone())
            }
            _ => Err(Reason::CredentialMalformed),
        }
    }
}

/// Takes a cookie off a request, and leaves the others there.
fn take_cookie(headers: &mut HeaderMap, name: &str) -> Vec<Option<String>> {
    let mut taken = Vec::new();
    let mut left = Vec::new();
    for header in headers.get_all(COOKIE) {
        let Ok(header) = header.to_str() else {
            // What cannot be read might be the credential.
            taken.push(None);
            continue;
        };
        for pair in header.split(';').map(str::trim).filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some((key, value)) if key.trim() == name => {
                    taken.push(Some(value.trim().trim_matches('"').to_owned()));
                }
                _ => left.push(pair.to_owned()),
            }
        }
    }
    headers.remove(COOKIE);
    if let Ok(rest) = HeaderValue::from_str(&left.join("; "))
        && !left.is_empty()
    {
        headers.insert(COOKIE, rest);
    }
    taken
}

/// Never in the words of a denial: nothing was decided.
fn undecided(error: &Error) -> Response<String> {
    tracing::error!(cause = %error, "no_verdict");
    let (status, text) = if error.is_transient() {
        (StatusCode::SERVICE_UNAVAILABLE, "authorization is unavailable at the moment; try again\n")
    } else {
        (StatusCode::INTERNAL_SERVER_ERROR, "authorization is not set up correctly\n")
    };
    let mut response = Response::new(text.to_owned());
    *response.status_mut() = status;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
