//! The client.

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::batching::{Batcher, batch_check};
use crate::calls::Call;
use crate::secret::Secret;
use crate::transport::{CallOptions, Transport, deadline_after};
use crate::v1::{self, Principal};
use crate::{
    AccountService, AuditService, Batching, Check, ClientBuilder, Error, KeyService, KeyspaceService,
    ReplicationService, Verdict,
};

/// Talks to Keyfence. A clone shares the connections and the cache; make one client, clone it
/// freely, and [close](Client::close) it at the end.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
    credential: Option<Secret>,
    timeout: Option<Duration>,
}

#[derive(Debug)]
struct Shared {
    transport: Arc<Transport>,
    batcher: Option<Batcher>,
    #[cfg(feature = "cache")]
    holder: Option<crate::holder::Holder>,
    is_closed: AtomicBool,
}

impl Client {
    /// Sets a client up for a server.
    ///
    /// The target is `host:port`, `dns:///host:port` or `unix:/path`. The connection is plaintext
    /// over the loopback interface and Unix sockets, and TLS with the system's certificate
    /// authorities everywhere else.
    pub fn builder(target: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(target.into())
    }

    /// Sets a client up for the server of the environment's `KEYFENCE_TARGET`.
    pub fn from_env() -> Result<ClientBuilder, Error> {
        match env::var("KEYFENCE_TARGET") {
            Ok(target) if !target.is_empty() => Ok(ClientBuilder::new(target)),
            _ => Err(Error::invalid("no target: set KEYFENCE_TARGET")),
        }
    }

    pub(crate) fn assemble(
        transport: Transport,
        batching: Option<Batching>,
        #[cfg(feature = "cache")] cache: Option<crate::Cache>,
    ) -> Result<Self, Error> {
        let transport = Arc::new(transport);
        let batcher = batching.map(|batching| Batcher::new(transport.clone(), &batching)).transpose()?;
        #[cfg(feature = "cache")]
        let holder = match cache {
            Some(cache) => {
                cache.verify()?;
                Some(crate::holder::Holder::new(transport.clone(), cache.max_keys))
            }
            None => None,
        };
        let shared = Shared {
            transport,
            batcher,
            #[cfg(feature = "cache")]
            holder,
            is_closed: AtomicBool::new(false),
        };
        Ok(Self { shared: Arc::new(shared), credential: None, timeout: None })
    }

    /// The same client with another credential than its own: an account's session, or the key that
    /// [`Client::who_am_i`] is to tell about. Its checks are answered by the server.
    #[must_use]
    pub fn with_credential(&self, credential: impl Into<Secret>) -> Self {
        Self { credential: Some(credential.into()), ..self.clone() }
    }

    /// The same client with another deadline, for checks and other calls.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self.clone() }
    }

    /// Asks whether the key may do what needs all of the scopes. A denial is a verdict and no error.
    pub async fn check_scope(&self, check: Check<'_>) -> Result<Verdict, Error> {
        if check.required_scopes.is_empty() {
            return Err(Error::invalid("check_scope needs scopes; authenticate asks whose key it is"));
        }
        let options = self.options()?;
        #[cfg(feature = "cache")]
        if let Some(verdict) = self.remembered(&check, &options).await {
            return Ok(verdict);
        }
        if let Some(batcher) = &self.shared.batcher
            && options.credential.is_none()
        {
            let deadline = self.shared.transport.check_deadline(&options);
            return batcher.check(check.scope_request(), deadline).await;
        }
        self.shared.transport.call(check.scope_request(), &options).await.map(Verdict::from)
    }

    /// Asks whose key it is. A key that is not good is a verdict and no error.
    pub async fn authenticate(&self, check: Check<'_>) -> Result<Verdict, Error> {
        if !check.required_scopes.is_empty() || check.explain {
            return Err(Error::invalid("authenticate takes no scopes; check_scope does"));
        }
        let options = self.options()?;
        #[cfg(feature = "cache")]
        if let Some(verdict) = self.remembered(&check, &options).await {
            return Ok(verdict);
        }
        self.shared.transport.call(check.key_request(), &options).await.map(Verdict::from)
    }

    /// Asks up to 256 questions in one call. Each is answered by itself, in order.
    pub async fn batch_check_scope(
        &self,
        checks: &[Check<'_>],
    ) -> Result<Vec<Result<Verdict, Error>>, Error> {
        let options = self.options()?;
        let requests = checks.iter().map(Check::scope_request).collect();
        batch_check(&self.shared.transport, requests, &options).await
    }

    /// Asks whose token the client has, or whose credential it was given.
    pub async fn who_am_i(&self) -> Result<Principal, Error> {
        Ok(self.call(v1::WhoAmIRequest {}).await?.principal.unwrap_or_default())
    }

    /// The RPCs that manage keys. Calls by it, as by its neighbours, carry the client's token, have a
    /// deadline, and are repeated where that is safe. A request with an empty `request_id` gets one,
    /// so that repeating it makes one key.
    #[must_use]
    pub fn keys(&self) -> KeyService {
        KeyService(self.clone())
    }

    /// The RPCs that declare keyspaces.
    #[must_use]
    pub fn keyspaces(&self) -> KeyspaceService {
        KeyspaceService(self.clone())
    }

    /// The RPCs for accounts and their sessions.
    #[must_use]
    pub fn accounts(&self) -> AccountService {
        AccountService(self.clone())
    }

    /// The RPCs of the audit log.
    #[must_use]
    pub fn audit(&self) -> AuditService {
        AuditService(self.clone())
    }

    /// The RPCs of holders. The client's cache uses them by itself.
    #[must_use]
    pub fn replication(&self) -> ReplicationService {
        ReplicationService(self.clone())
    }

    /// How the cache is doing; `None` if the client has none.
    #[cfg(feature = "cache")]
    #[must_use]
    pub fn cache_status(&self) -> Option<crate::CacheStatus> {
        self.shared.holder.as_ref().map(crate::holder::Holder::status)
    }

    /// Gives up the cache's lease and reports the last uses of keys. Calls of the client and of its
    /// clones fail from then on. It takes at most a few seconds. Closing twice is fine. A client that
    /// is dropped without this gives the lease up and leaves the last uses out.
    #[cfg_attr(not(feature = "cache"), allow(clippy::unused_async, reason = "the cache waits"))]
    pub async fn close(&self) {
        if self.shared.is_closed.swap(true, Ordering::SeqCst) {
            return;
        }
        #[cfg(feature = "cache")]
        if let Some(holder) = &self.shared.holder {
            holder.close().await;
        }
    }

    pub(crate) async fn call<C: Call>(&self, request: C) -> Result<C::Response, Error> {
        let options = self.options()?;
        self.shared.transport.call(request, &options).await
    }

    fn options(&self) -> Result<CallOptions, Error> {
        if self.shared.is_closed.load(Ordering::SeqCst) {
            return Err(Error::Closed);
        }
        let deadline = self.timeout.map(deadline_after);
        Ok(CallOptions { credential: self.credential.clone(), deadline })
    }

    // Memory holds what the client's own token may know of.
    #[cfg(feature = "cache")]
    async fn remembered(&self, check: &Check<'_>, options: &CallOptions) -> Option<Verdict> {
        let holder = self.shared.holder.as_ref()?;
        if check.explain || options.credential.is_some() {
            return None;
        }
        if let Some(verdict) = holder.answer(check) {
            return Some(verdict);
        }
        let deadline = self.shared.transport.check_deadline(options);
        holder.fill(check, deadline).await
    }
}
