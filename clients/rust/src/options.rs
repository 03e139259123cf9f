//! How a client is set up.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, fmt};

use crate::secret::Secret;
use crate::target::Target;
use crate::token::{self, Token, TokenFile};
use crate::transport::{Servers, Transport};
use crate::{Batching, Client, Error};

/// The deadline of checks that name none. Checks are answered from memory, and their callers have
/// callers waiting.
pub const DEFAULT_CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// The deadline of other calls. A mutation returns when it holds everywhere, which takes seconds
/// when a holder of a lease has gone away.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

/// Sets a [`Client`] up. Without a token it is the environment's `KEYFENCE_TOKEN`, or else none.
#[must_use]
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    targets: Vec<String>,
    token: Option<Token>,
    is_plaintext: bool,
    check_timeout: Duration,
    timeout: Duration,
    batching: Option<Batching>,
    #[cfg(feature = "cache")]
    cache: Option<crate::Cache>,
    #[cfg(feature = "tls")]
    tls: Option<tonic::transport::ClientTlsConfig>,
}

impl ClientBuilder {
    pub(crate) fn new(target: String) -> Self {
        Self {
            targets: vec![target],
            token: None,
            is_plaintext: false,
            check_timeout: DEFAULT_CHECK_TIMEOUT,
            timeout: DEFAULT_TIMEOUT,
            batching: None,
            #[cfg(feature = "cache")]
            cache: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// The client's own credential.
    pub fn token(mut self, token: impl Into<Secret>) -> Self {
        self.token = Some(Token::Fixed(token.into()));
        self
    }

    /// Takes the credential from a file, which is read again when it has changed.
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.token = Some(Token::File(Arc::new(TokenFile::new(path.into()))));
        self
    }

    /// Asks a function for the credential, for every call, from any thread. It must be quick.
    pub fn token_fn<F>(mut self, function: F) -> Self
    where
        F: Fn() -> Result<Secret, Box<dyn std::error::Error + Send + Sync>> + Send + Sync + 'static,
    {
        self.token = Some(Token::Function(Arc::new(function)));
        self
    }

    /// Another server, which stands for the first one: calls take turns among those that answer.
    pub fn address(mut self, target: impl Into<String>) -> Self {
        self.targets.push(target.into());
        self
    }

    /// How to do TLS, where the defaults do not fit: other certificate authorities, a certificate
    /// of the client's own. It also turns TLS on for the loopback interface.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, settings: tonic::transport::ClientTlsConfig) -> Self {
        self.tls = Some(settings);
        self
    }

    /// Does without TLS over a network, which can then read the token and every key. It is meant for
    /// networks that encrypt by themselves, such as a service mesh.
    pub fn insecure_plaintext(mut self) -> Self {
        self.is_plaintext = true;
        self
    }

    /// The deadline of checks.
    pub fn check_timeout(mut self, timeout: Duration) -> Self {
        self.check_timeout = timeout;
        self
    }

    /// The deadline of other calls.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Answers checks on known keys from memory, under a lease: what was revoked is never accepted,
    /// and what is not known is asked of the server. The token needs the scope `replication:sync`.
    #[cfg(feature = "cache")]
    pub fn cache(mut self, cache: crate::Cache) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Sends checks that are under way at the same time in one message. It costs a check nothing
    /// when it is alone.
    pub fn batching(mut self, batching: Batching) -> Self {
        self.batching = Some(batching);
        self
    }

    /// Makes the client. It connects in the background and at the first call, so a server that is
    /// away is an error of the calls. It must be called within a tokio runtime, and the client is
    /// used there.
    pub fn build(self) -> Result<Client, Error> {
        let targets = self.targets.iter().map(|text| Target::parse(text)).collect::<Result<Vec<_>, _>>()?;
        if self.check_timeout.is_zero() || self.timeout.is_zero() {
            return Err(Error::invalid("timeouts must be more than zero"));
        }
        let token = match self.token.clone() {
            Some(token) => token,
            None => match env::var("KEYFENCE_TOKEN") {
                Ok(text) if !text.is_empty() => Token::Fixed(Secret::from(text)),
                _ => Token::None,
            },
        };
        if let Token::Fixed(fixed) = &token {
            token::check(fixed)?;
        }
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(Error::invalid("make the client within a tokio runtime, where it is used"));
        }
        let transport = Transport::new(self.servers(&targets)?, token, self.check_timeout, self.timeout);
        Client::assemble(
            transport,
            self.batching,
            #[cfg(feature = "cache")]
            self.cache,
        )
    }

    #[cfg(feature = "tls")]
    fn servers(&self, targets: &[Target]) -> Result<Servers, Error> {
        let all_local = targets.iter().all(Target::is_local);
        if self.tls.is_some() && self.is_plaintext {
            return Err(Error::invalid("tls and insecure_plaintext exclude each other"));
        }
        let by_default = || tonic::transport::ClientTlsConfig::new().with_native_roots();
        let tls = match &self.tls {
            Some(settings) => Some(settings.clone()),
            None if all_local || self.is_plaintext => None,
            None => Some(by_default()),
        };
        Servers::new(targets, tls.as_ref())
    }

    #[cfg(not(feature = "tls"))]
    fn servers(&self, targets: &[Target]) -> Result<Servers, Error> {
        if !self.is_plaintext && !targets.iter().all(Target::is_local) {
            return Err(Error::invalid(
                "a server on a network needs TLS: turn on the feature \"tls\" of the crate keyfence",
            ));
        }
        Servers::new(targets)
    }
}

/// The guarded value, also after a panic of another thread: nothing here is left half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(out, "unix:{path}"),
            Self::Network { authority, .. } => out.write_str(authority),
        }
    }
}
