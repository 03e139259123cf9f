//! A holder without tasks, connections and clocks: what it makes of what its grantor says, and what
//! it answers. The conformance driver speaks to it, and so does the holder.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Guards;
use super::clock::Moment;
use super::facts::address_of;
use super::lease::{Lease, Published};
use super::memory::{Fill, Memory};
use crate::options::lock;
use crate::v1::{self, Reason, sync_response};
use crate::{CacheStatus, Check, Verdict};

const RENEWALS_PER_LEASE: u32 = 3; // unless the grantor says when to renew
const FIRST_INTERVAL: Duration = Duration::from_millis(500);
/// What is left of a lease can be very little, and asking without a pause brings no more.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
/// Without an answer for as long as a lease lasts, a stream is given up.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// A revision is missing, so the stream must be given up.
#[derive(Debug)]
pub struct RevisionMissing {
    came: i64,
    after: i64,
}

impl fmt::Display for RevisionMissing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "revision {} came after {}: some are missing", self.came, self.after)
    }
}

/// A holder that does nothing by itself. Checks are answered from any thread without the lock.
pub struct Core {
    pub(super) memory: Memory,
    guards: Guards,
    /// Reads the clock that leases are counted by.
    now: Box<dyn Fn() -> Moment + Send + Sync>,
    /// Reads the clock that keys expire by, in nanoseconds since the epoch.
    wall: Box<dyn Fn() -> i64 + Send + Sync>,
    published: Arc<Published>,
    denials: AtomicI64,
    following: Mutex<Following>,
}

#[derive(Debug)]
struct Following {
    lease: Lease,
    told: i64,
    heard: i64,
    pace: Pace,
}

/// How long to wait between renewals, and for an answer to any of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) interval: Duration,
    pub(super) patience: Duration,
}

impl fmt::Debug for Core {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Core").finish_non_exhaustive()
    }
}

impl Core {
    /// A holder that remembers nothing and has no lease.
    #[must_use]
    pub fn new(
        max_keys: usize,
        guards: Guards,
        now: Box<dyn Fn() -> Moment + Send + Sync>,
        wall: Box<dyn Fn() -> i64 + Send + Sync>,
    ) -> Self {
        let lease = Lease::new(guards);
        Self {
            memory: Memory::new(max_keys, guards),
            guards,
            now,
            wall,
            published: lease.published(),
            denials: AtomicI64::new(0),
            following: Mutex::new(Following {
                lease,
                told: 0,
                heard: 0,
                pace: Pace { interval: FIRST_INTERVAL, patience: LEAST_PATIENCE },
            }),
        }
    }

    /// Is called when a grantor has let the holder in, before it says anything on the stream: what
    /// was granted and remembered is given up, so that the grantor need not wait for it.
    pub fn begin(&self) {
        let mut following = lock(&self.following);
        following.told = 0;
        following.heard = 0;
        if !self.guards.keep_across_streams {
            following.lease.abandon();
            self.memory.forget_everything(0, "");
        }
    }

    /// Gives up the lease and everything that is remembered.
    pub fn abandon(&self) {
        let mut following = lock(&self.following);
        following.lease.abandon();
        self.memory.forget_everything(0, "");
    }

    /// The next request for a lease, to be sent after this returns.
    pub fn renewal(&self) -> v1::Renew {
        let mut following = lock(&self.following);
        let nonce = following.lease.request((self.now)());
        v1::Renew { nonce, applied_revision: self.acknowledged(&following) }
    }

    /// What there is to acknowledge; `None` if it was told before.
    pub fn acknowledgement(&self) -> Option<v1::Renew> {
        let mut following = lock(&self.following);
        let applied = self.acknowledged(&following);
        if applied <= following.told {
            return None;
        }
        following.told = applied;
        Some(v1::Renew { nonce: 0, applied_revision: applied })
    }

    fn acknowledged(&self, following: &Following) -> i64 {
        match following.lease.applied() {
            None => 0,
            Some(applied) if self.guards.acknowledge_first => applied.max(following.heard),
            Some(applied) => applied,
        }
    }

    /// Does what the grantor says. Says whether the keyspaces must be fetched again.
    pub fn take(&self, message: &v1::SyncResponse) -> Result<bool, RevisionMissing> {
        let mut following = lock(&self.following);
        match &message.message {
            Some(sync_response::Message::Lease(lease)) => Ok(self.take_lease(&mut following, lease)),
            Some(sync_response::Message::Changes(changes)) => self.take_changes(&mut following, changes),
            Some(sync_response::Message::End(_)) => {
                // The grantor takes every lease back: what is remembered goes before it is told so.
                following.lease.abandon();
                self.memory.forget_everything(0, "");
                Ok(false)
            }
            None => Ok(false),
        }
    }

    fn take_lease(&self, following: &mut Following, lease: &v1::Lease) -> bool {
        let ttl = duration_of(lease.ttl.as_ref());
        if ttl.is_zero() {
            return false;
        }
        following.heard = following.heard.max(lease.head_revision);
        let mut has_forgotten = false;
        following.lease.grant((self.now)(), lease.nonce, ttl, lease.head_revision, &lease.epoch, || {
            self.memory.forget_everything(lease.head_revision, &lease.epoch);
            has_forgotten = true;
        });
        let asked = duration_of(lease.renew_after.as_ref());
        let interval = if asked.is_zero() { ttl / RENEWALS_PER_LEASE } else { asked };
        following.pace =
            Pace { interval: interval.max(SHORTEST_INTERVAL), patience: ttl.max(LEAST_PATIENCE) };
        has_forgotten
    }

    fn take_changes(
        &self,
        following: &mut Following,
        changes: &v1::RevisionChanges,
    ) -> Result<bool, RevisionMissing> {
        // Before the first lease there is nothing to forget, and its head has them all.
        let Some(applied) = following.lease.applied() else { return Ok(false) };
        if changes.revision <= applied {
            return Ok(false);
        }
        let first = if changes.first_revision == 0 { changes.revision } else { changes.first_revision };
        if first > applied + 1 && !self.guards.ignore_gaps {
            return Err(RevisionMissing { came: first, after: applied });
        }
        following.heard = following.heard.max(changes.revision);
        let any_keyspace = self.memory.apply(changes);
        following.lease.advance_to(changes.revision);
        Ok(any_keyspace)
    }

    pub(super) fn pace(&self) -> Pace {
        lock(&self.following).pace
    }

    /// Answers a check from memory. `None`: the server must be asked.
    #[must_use]
    pub fn answer(&self, check: &Check<'_>) -> Option<Verdict> {
        // Read before the entry, which is then at least as new, whatever is applied meanwhile.
        let revision = self.memory.applied();
        // The clock is read for this very answer, after the question came (rule I2).
        if check.at_least_revision > revision || !self.published.is_live((self.now)()) {
            return None;
        }
        let known = self.memory.find(check.api_key)?;
        let principal = &known.facts.principal;
        if known.facts.is_counted || (!check.keyspace.is_empty() && check.keyspace != principal.keyspace) {
            return None;
        }
        let address = address_of(check.client_address).ok()?;
        let missing = known.facts.missing(check.required_scopes);
        if !missing.is_empty() && !self.memory.registers(&principal.keyspace, &missing) {
            // Whether these scopes exist at all, the server knows.
            return None;
        }
        let wall = (self.wall)();
        let mut verdict = Verdict {
            reason: known.facts.reason(wall, address),
            principal: Some(Arc::clone(principal)),
            revision,
            ..Verdict::default()
        };
        if verdict.reason == Reason::Ok && !missing.is_empty() {
            verdict.reason = Reason::ScopeMissing;
            verdict.missing_scopes = missing;
        }
        if verdict.reason == Reason::Ok {
            verdict.allowed = true;
            known.note_use(wall, address);
        } else {
            self.denials.fetch_add(1, Ordering::Relaxed);
        }
        Some(verdict)
    }

    /// Is called when a check could not be answered. `None`: to ask for facts would not help.
    #[must_use]
    pub fn begin_fill(&self, api_key: &str) -> Option<Fill> {
        if api_key.is_empty() || !self.published.is_live((self.now)()) || self.memory.find(api_key).is_some()
        {
            return None;
        }
        Some(self.memory.begin_fill())
    }

    /// Takes the server's answer. Says whether the check can be answered now.
    pub fn end_fill(&self, fill: &Fill, api_key: &str, response: &v1::FetchFactsResponse) -> bool {
        self.memory.end_fill(fill, api_key, response)
    }

    pub(super) fn drop_fill(&self, fill: &Fill) {
        self.memory.drop_fill(fill);
    }

    pub(super) fn status(&self) -> CacheStatus {
        let lease_left = (self.now)().until(self.published.until());
        let tally = self.memory.tally();
        CacheStatus {
            is_live: !lease_left.is_zero(),
            lease_left,
            applied_revision: self.memory.applied(),
            keys: tally.keys,
            hits: tally.uses + self.denials.load(Ordering::Relaxed),
            discarded_fills: tally.discarded_fills,
            resets: tally.resets,
        }
    }
}

/// A duration that is not negative.
fn duration_of(told: Option<&prost_types::Duration>) -> Duration {
    told.and_then(|told| Duration::try_from(*told).ok()).unwrap_or_default()
}
