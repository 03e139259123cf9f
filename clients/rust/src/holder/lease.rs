//! A holder's right to answer from memory: how long it lasts and what it depends on (rules I2 and I6
//! of docs/fence.md). No I/O, and no clock is read here.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::Guards;
use super::clock::Moment;

const MAX_PENDING: usize = 16;
const MAX_GRANTS: usize = 16;

/// When a lease counts: from when its renewal was sent, until it ends.
#[derive(Clone, Copy, Debug)]
struct Span {
    sent: Moment,
    until: Moment,
}

const NO_SPAN: Span = Span { sent: Moment::NEVER, until: Moment::NEVER };

/// What checks read of a lease, from any thread.
#[derive(Debug)]
pub struct Published(RwLock<Span>);

impl Published {
    fn read(&self) -> Span {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the holder may answer from memory. The reading must be taken for this very answer,
    /// after the question came.
    #[must_use]
    pub fn is_live(&self, now: Moment) -> bool {
        let span = self.read();
        // Where the second clock is the wall clock: one that was set back ends the lease, too.
        now.is_before(span.until) && now.second >= span.sent.second
    }

    /// When the right to answer ends.
    #[must_use]
    pub fn until(&self) -> Moment {
        self.read().until
    }
}

#[derive(Debug)]
struct Pending {
    nonce: i64,
    sent: Moment,
    applied: i64,
}

#[derive(Debug)]
struct Grant {
    span: Span,
    head: i64,
}

/// The lease. What ends when is published for checks after memory is as it must be.
#[derive(Debug)]
pub struct Lease {
    next_nonce: i64,
    pending: VecDeque<Pending>,
    grants: VecDeque<Grant>,
    /// `None` before the first grant, which tells from which revision on changes are followed.
    applied: Option<i64>,
    epoch: String,
    current: Span,
    published: Arc<Published>,
    guards: Guards,
}

impl Lease {
    /// A lease before the first grant.
    #[must_use]
    pub fn new(guards: Guards) -> Self {
        Self {
            next_nonce: 1,
            pending: VecDeque::new(),
            grants: VecDeque::new(),
            applied: None,
            epoch: String::new(),
            current: NO_SPAN,
            published: Arc::new(Published(RwLock::new(NO_SPAN))),
            guards,
        }
    }

    #[must_use]
    pub fn published(&self) -> Arc<Published> {
        Arc::clone(&self.published)
    }

    /// The revision up to which every change is applied; `None` before the first grant.
    #[must_use]
    pub fn applied(&self) -> Option<i64> {
        self.applied
    }

    /// Begins a renewal and returns the nonce to send. The reading must be taken before the renewal
    /// is sent: a grant can lie in a buffer for any time, so it is counted from there.
    pub fn request(&mut self, now: Moment) -> i64 {
        let nonce = self.next_nonce;
        self.next_nonce += 1;
        self.pending.push_back(Pending { nonce, sent: now, applied: self.applied.unwrap_or(0) });
        if self.pending.len() > MAX_PENDING {
            self.pending.pop_front();
        }
        nonce
    }

    /// Takes note of a grant, whose length counts from when its renewal was sent. One that was not
    /// asked for, or comes for the second time, is ignored.
    ///
    /// It calls `forget`, before anything can be answered under the grant, if what is remembered does
    /// not count any more: this is the first grant, or one of another epoch, or of a head that lies
    /// behind what had been applied when it was asked for.
    pub fn grant(
        &mut self,
        now: Moment,
        nonce: i64,
        ttl: Duration,
        head: i64,
        epoch: &str,
        forget: impl FnOnce(),
    ) {
        let Some(place) = self.pending.iter().position(|one| one.nonce == nonce) else { return };
        let Some(asked) = self.pending.remove(place) else { return };
        let sent = if self.guards.count_from_arrival { now } else { asked.sent };
        let is_other_epoch = epoch != self.epoch && !self.guards.ignore_epoch;
        if self.applied.is_none() || is_other_epoch || head < asked.applied {
            // With an empty memory every change up to the head is as good as applied.
            self.grants.clear();
            self.current = NO_SPAN;
            self.publish();
            self.applied = Some(head);
            epoch.clone_into(&mut self.epoch);
            forget();
        }
        self.grants.push_back(Grant { span: Span { sent, until: sent.plus(ttl) }, head });
        self.extend_until();
    }

    /// Takes note that every change up to a revision is applied. It is called after they are, without
    /// a gap.
    pub fn advance_to(&mut self, revision: i64) {
        if self.applied.is_some_and(|applied| revision > applied) {
            self.applied = Some(revision);
            self.extend_until();
        }
    }

    /// Gives up every grant, and those that were asked for. The holder must then forget what it
    /// remembers; the next grant starts it anew.
    pub fn abandon(&mut self) {
        self.pending.clear();
        self.grants.clear();
        self.current = NO_SPAN;
        self.applied = None;
        self.epoch.clear();
        self.publish();
    }

    fn extend_until(&mut self) {
        let applied = self.applied.unwrap_or(0);
        let mut open = VecDeque::new();
        for one in self.grants.drain(..) {
            if one.head > applied && !self.guards.ignore_head {
                open.push_back(one);
            } else if one.span.until.first > self.current.until.first {
                // Both clocks of one grant count together: mixing two grants could outlast both.
                self.current = one.span;
            }
        }
        while open.len() > MAX_GRANTS {
            open.pop_front();
        }
        self.grants = open;
        self.publish();
    }

    fn publish(&self) {
        *self.published.0.write().unwrap_or_else(PoisonError::into_inner) = self.current;
    }
}
