//! Checks and their verdicts.

use std::fmt;
use std::sync::Arc;

use crate::secret::shown;
use crate::v1::{self, Principal, RateLimitStatus, Reason, ScopeExplanation};

/// A question about a key.
///
/// ```ignore
/// Check::key(&presented).scopes(&["vps:read"]).keyspace("demo")
/// ```
#[must_use]
#[derive(Clone, Copy, Default)]
pub struct Check<'a> {
    pub(crate) api_key: &'a str,
    pub(crate) required_scopes: &'a [&'a str],
    pub(crate) keyspace: &'a str,
    pub(crate) client_address: &'a str,
    pub(crate) at_least_revision: i64,
    pub(crate) explain: bool,
    pub(crate) cost: Option<i32>,
}

impl<'a> Check<'a> {
    /// Asks about what a caller presented, without `Bearer`.
    pub fn key(api_key: &'a str) -> Self {
        Self { api_key, ..Self::default() }
    }

    /// The scopes that are needed, all of them: registered names, no wildcards.
    pub fn scopes(mut self, required: &'a [&'a str]) -> Self {
        self.required_scopes = required;
        self
    }

    /// The keyspace that the key must be of. Without it: any that the client's token is bound to.
    pub fn keyspace(mut self, keyspace: &'a str) -> Self {
        self.keyspace = keyspace;
        self
    }

    /// Where the key was presented from, without a port, for keys with an allow-list of addresses.
    pub fn client_address(mut self, address: &'a str) -> Self {
        self.client_address = address;
        self
    }

    /// Asks for an answer from no older a state, for example that of a mutation.
    pub fn at_least_revision(mut self, revision: i64) -> Self {
        self.at_least_revision = revision;
        self
    }

    /// Asks which grants led to the answer. It needs scopes.
    pub fn explain(mut self) -> Self {
        self.explain = true;
        self
    }

    /// What the check counts for against rate limits. Without it: 1. Zero counts for nothing, and no
    /// limit stops it.
    pub fn cost(mut self, cost: i32) -> Self {
        self.cost = Some(cost);
        self
    }

    pub(crate) fn scope_request(&self) -> v1::CheckScopeRequest {
        v1::CheckScopeRequest {
            api_key: self.api_key.to_owned(),
            required_scopes: self.required_scopes.iter().map(|&scope| scope.to_owned()).collect(),
            keyspace: self.keyspace.to_owned(),
            client_address: self.client_address.to_owned(),
            at_least_revision: self.at_least_revision,
            explain: self.explain,
            cost: self.cost,
        }
    }

    pub(crate) fn key_request(&self) -> v1::AuthenticateRequest {
        v1::AuthenticateRequest {
            api_key: self.api_key.to_owned(),
            keyspace: self.keyspace.to_owned(),
            client_address: self.client_address.to_owned(),
            at_least_revision: self.at_least_revision,
            cost: self.cost,
        }
    }
}

impl fmt::Debug for Check<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Check")
            .field("api_key", &shown(self.api_key))
            .field("required_scopes", &self.required_scopes)
            .field("keyspace", &self.keyspace)
            .field("client_address", &self.client_address)
            .field("at_least_revision", &self.at_least_revision)
            .field("explain", &self.explain)
            .field("cost", &self.cost)
            .finish()
    }
}

/// The answer to a check. The default allows nothing.
#[must_use]
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Verdict {
    /// Whether the key is good and holds every required scope.
    pub allowed: bool,
    /// Why; `Reason::Ok` exactly if the check is allowed, and `Reason::Unspecified` for a reason of a
    /// later version.
    pub reason: Reason,
    /// The required scopes that the key lacks, with `Reason::ScopeMissing`.
    pub missing_scopes: Vec<String>,
    /// Whose key it is. Set for known keys, also for those that do not pass.
    pub principal: Option<Arc<Principal>>,
    /// What the answer reflects at least.
    pub revision: i64,
    /// Where the key's limit stands. `None` if it has none.
    pub rate_limit: Option<Box<RateLimitStatus>>,
    /// Set if the check asked for it and the key is known.
    pub explanation: Option<Box<ScopeExplanation>>,
    /// Whether the server answers from a memory that may be out of date, because its operator has
    /// asked for that.
    pub stale: bool,
}

impl From<v1::CheckScopeResponse> for Verdict {
    fn from(response: v1::CheckScopeResponse) -> Self {
        let reason = response.reason();
        Self {
            allowed: response.allowed && reason == Reason::Ok,
            reason,
            missing_scopes: response.missing_scopes,
            principal: response.principal.map(Arc::new),
            revision: response.revision,
            rate_limit: response.rate_limit.map(Box::new),
            explanation: response.explanation.map(Box::new),
            stale: response.stale,
        }
    }
}

impl From<v1::AuthenticateResponse> for Verdict {
    fn from(response: v1::AuthenticateResponse) -> Self {
        let reason = response.reason();
        Self {
            allowed: response.authenticated && reason == Reason::Ok,
            reason,
            principal: response.principal.map(Arc::new),
            revision: response.revision,
            rate_limit: response.rate_limit.map(Box::new),
            stale: response.stale,
            ..Self::default()
        }
    }
}
