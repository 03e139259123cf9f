//! Facts about at most so many keys, and never decisions.

use std::collections::hash_map::HashMap;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use sha2::{Digest as _, Sha256};

use super::Guards;
use super::facts::{Facts, Subject, subject_of};
use super::uses::{Use, Uses};
use crate::options::lock;
use crate::secret::random_bytes;
use crate::v1;

const SHARDS: usize = 16;
const DIGEST_BYTES: usize = 16;
/// What is longer is no key.
const MAX_KEY_BYTES: usize = 512;

type Digest = [u8; DIGEST_BYTES];
type Shard = RwLock<HashMap<Digest, Arc<Entry>, BuildHasherDefault<DigestHasher>>>;

/// Takes a part of a digest, which a caller cannot choose.
#[derive(Debug, Default)]
struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    // The length of an array, which is always the same.
    fn write_usize(&mut self, _length: usize) {}
}

/// A key in memory.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) facts: Facts,
    digest: Digest,
    place: AtomicU64,
    /// Since its place in the queue came up.
    is_asked_for: AtomicBool,
    /// Checks that have passed; `collected` of them were handed over to be reported.
    uses: AtomicI64,
    collected: AtomicI64,
    last_use: AtomicI64,
    last_address: Mutex<Option<IpAddr>>,
}

impl Entry {
    /// Notes a check that has passed.
    pub(super) fn note_use(&self, wall: i64, address: Option<IpAddr>) {
        self.uses.fetch_add(1, Ordering::Relaxed);
        self.last_use.store(wall, Ordering::Relaxed);
        if let Some(address) = address {
            *lock(&self.last_address) = Some(address);
        }
    }

    fn uncollected(&self) -> i64 {
        self.uses.load(Ordering::Relaxed) - self.collected.load(Ordering::Relaxed)
    }
}

/// Facts on their way into memory. Each is ended or dropped.
#[derive(Debug)]
pub struct Fill {
    number: u64,
    started_at: i64,
    epoch: String,
}

impl Fill {
    /// The revision that must be asked for.
    #[must_use]
    pub fn at_least(&self) -> i64 {
        self.started_at
    }
}

/// What has changed since a fill began.
#[derive(Debug, Default)]
struct Meanwhile {
    changed: Vec<(i64, Subject)>,
    is_void: bool,
}

/// Remembers facts. When another key comes than there is space for, one goes that was not asked for
/// lately.
///
/// A key is found by a digest with a secret of this process, so that no plaintext stays in memory.
#[derive(Debug)]
pub(super) struct Memory {
    capacity: usize,
    secret: [u8; DIGEST_BYTES],
    guards: Guards,
    shards: [Shard; SHARDS],
    applied: AtomicI64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By place; the first has waited longest.
    queue: BTreeMap<u64, Arc<Entry>>,
    next_place: u64,
    by_subject: BTreeSet<(Subject, Digest)>,
    registered: HashMap<String, HashSet<String>>,
    fills: HashMap<u64, Meanwhile>,
    next_fill: u64,
    epoch: String,
    uses: Uses,
    discarded_fills: i64,
    resets: i64,
}

/// How a memory is doing.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) keys: usize,
    pub(super) uses: i64,
    pub(super) discarded_fills: i64,
    pub(super) resets: i64,
}

impl Memory {
    pub(super) fn new(capacity: usize, guards: Guards) -> Self {
        Self {
            capacity,
            secret: random_bytes(),
            guards,
            shards: Default::default(),
            applied: AtomicI64::new(0),
            state: Mutex::default(),
        }
    }

    pub(super) fn applied(&self) -> i64 {
        self.applied.load(Ordering::SeqCst)
    }

    /// What a key is found by; `None` if the text is too long to be a key.
    fn digest(&self, api_key: &str) -> Option<Digest> {
        if api_key.len() > MAX_KEY_BYTES {
            return None;
        }
        let sum = Sha256::new().chain_update(self.secret).chain_update(api_key).finalize();
        sum.first_chunk().copied()
    }

    fn shard(&self, digest: &Digest) -> &Shard {
        &self.shards[usize::from(digest[DIGEST_BYTES - 1]) % SHARDS]
    }

    pub(super) fn find(&self, api_key: &str) -> Option<Arc<Entry>> {
        let digest = self.digest(api_key)?;
        let found = self.get(&digest)?;
        if !found.is_asked_for.load(Ordering::Relaxed) {
            found.is_asked_for.store(true, Ordering::Relaxed);
        }
        Some(found)
    }

    fn get(&self, digest: &Digest) -> Option<Arc<Entry>> {
        self.shard(digest).read().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    /// Whether the keyspace is known to register all of the scopes.
    pub(super) fn registers(&self, keyspace: &str, scopes: &[String]) -> bool {
        let state = lock(&self.state);
        state.registered.get(keyspace).is_some_and(|known| scopes.iter().all(|scope| known.contains(scope)))
    }

    /// Is called before facts are asked for. Every fill must be ended or dropped.
    pub(super) fn begin_fill(&self) -> Fill {
        let mut state = lock(&self.state);
        let number = state.next_fill;
        state.next_fill += 1;
        state.fills.insert(number, Meanwhile::default());
        Fill { number, started_at: self.applied(), epoch: state.epoch.clone() }
    }

    pub(super) fn drop_fill(&self, fill: &Fill) {
        lock(&self.state).fills.remove(&fill.number);
    }

    /// Remembers facts, unless something has changed that they may not show (rule I5). Says whether
    /// checks of the key can be answered now.
    pub(super) fn end_fill(&self, fill: &Fill, api_key: &str, response: &v1::FetchFactsResponse) -> bool {
        let facts = Facts::of(response);
        let mut state = lock(&self.state);
        // Ended before, or begun by another memory.
        let Some(meanwhile) = state.fills.remove(&fill.number) else { return false };
        let (Some(facts), Some(digest)) = (facts, self.digest(api_key)) else { return false };
        let is_overtaken = meanwhile.is_void
            || response.epoch != fill.epoch
            || response.revision < fill.started_at
            || meanwhile.changed.iter().any(|(revision, subject)| {
                *revision > response.revision && facts.depends_on.contains(subject)
            });
        if is_overtaken && !self.guards.keep_overtaken_fills {
            state.discarded_fills += 1;
            return false;
        }
        if let Some(replaced) = self.get(&digest) {
            self.forget_one(&mut state, &replaced);
        }
        let is_counted = facts.is_counted;
        self.remember(&mut state, facts, digest);
        while state.queue.len() > self.capacity {
            self.forget_oldest(&mut state);
        }
        !is_counted
    }

    fn remember(&self, state: &mut State, facts: Facts, digest: Digest) {
        for subject in &facts.depends_on {
            state.by_subject.insert((Subject::clone(subject), digest));
        }
        let added = Arc::new(Entry {
            facts,
            digest,
            place: AtomicU64::new(state.next_place),
            is_asked_for: AtomicBool::new(true),
            uses: AtomicI64::new(0),
            collected: AtomicI64::new(0),
            last_use: AtomicI64::new(0),
            last_address: Mutex::new(None),
        });
        state.queue.insert(state.next_place, Arc::clone(&added));
        state.next_place += 1;
        self.shard(&digest).write().unwrap_or_else(PoisonError::into_inner).insert(digest, added);
    }

    /// Remembers which scopes are registered. Says whether that is still so.
    pub(super) fn end_keyspaces_fill(&self, fill: &Fill, response: &v1::FetchKeyspacesResponse) -> bool {
        let registered = response.keyspaces.iter().map(|keyspace| {
            let scopes = keyspace.scopes.iter().map(|scope| scope.name.clone());
            let levels = keyspace.resources.iter().flat_map(|resource| {
                resource.levels.iter().map(|level| format!("{}:{}", resource.name, level.name))
            });
            (keyspace.name.clone(), scopes.chain(levels).collect())
        });
        let registered = registered.collect();
        let mut state = lock(&self.state);
        let Some(meanwhile) = state.fills.remove(&fill.number) else { return false };
        if meanwhile.is_void
            || response.epoch != fill.epoch
            || response.revision < fill.started_at
            || !meanwhile.changed.is_empty()
        {
            return false;
        }
        state.registered = registered;
        true
    }

    /// Forgets what a revision changed. Says whether the keyspaces must be fetched again.
    pub(super) fn apply(&self, changes: &v1::RevisionChanges) -> bool {
        let mut state = lock(&self.state);
        let mut any_keyspace = false;
        for change in &changes.changes {
            let Some(subject) = subject_of(change) else {
                if self.guards.ignore_unknown_changes {
                    continue;
                }
                // What it is about cannot be told (rule I8), so nothing that is remembered counts.
                self.forget(&mut state);
                any_keyspace = true;
                break;
            };
            for meanwhile in state.fills.values_mut() {
                meanwhile.changed.push((changes.revision, Subject::clone(&subject)));
            }
            if let Some(v1::subject_change::Subject::Keyspace(name)) = &change.subject {
                any_keyspace = true;
                state.registered.remove(name);
            }
            let from = (Subject::clone(&subject), [0; DIGEST_BYTES]);
            let to = (subject, [u8::MAX; DIGEST_BYTES]);
            let dropped: Vec<Digest> = state.by_subject.range(from..=to).map(|(_, digest)| *digest).collect();
            for digest in dropped {
                if let Some(known) = self.get(&digest) {
                    self.forget_one(&mut state, &known);
                }
            }
        }
        self.applied.store(changes.revision, Ordering::SeqCst);
        any_keyspace
    }

    /// Starts anew, from this revision of this epoch on.
    pub(super) fn forget_everything(&self, head: i64, epoch: &str) {
        let mut state = lock(&self.state);
        if !state.epoch.is_empty() {
            state.resets += 1;
        }
        self.forget(&mut state);
        self.applied.store(head, Ordering::SeqCst);
        epoch.clone_into(&mut state.epoch);
    }

    fn forget(&self, state: &mut State) {
        for shard in &self.shards {
            shard.write().unwrap_or_else(PoisonError::into_inner).clear();
        }
        for known in std::mem::take(&mut state.queue).into_values() {
            collect(state, &known);
        }
        state.by_subject.clear();
        state.registered.clear();
        for meanwhile in state.fills.values_mut() {
            meanwhile.is_void = true;
        }
    }

    fn forget_oldest(&self, state: &mut State) {
        while let Some((_, oldest)) = state.queue.pop_first() {
            if !oldest.is_asked_for.swap(false, Ordering::Relaxed) {
                self.forget_one(state, &oldest);
                return;
            }
            oldest.place.store(state.next_place, Ordering::Relaxed);
            state.queue.insert(state.next_place, oldest);
            state.next_place += 1;
        }
    }

    fn forget_one(&self, state: &mut State, known: &Arc<Entry>) {
        self.shard(&known.digest).write().unwrap_or_else(PoisonError::into_inner).remove(&known.digest);
        state.queue.remove(&known.place.load(Ordering::Relaxed));
        for subject in &known.facts.depends_on {
            state.by_subject.remove(&(Subject::clone(subject), known.digest));
        }
        collect(state, known);
    }

    /// Hands over how keys were used since it was last called, to be reported.
    pub(super) fn take_uses(&self) -> Vec<Use> {
        let mut state = lock(&self.state);
        let entries: Vec<Arc<Entry>> =
            state.queue.values().filter(|entry| entry.uncollected() > 0).cloned().collect();
        for known in entries {
            collect(&mut state, &known);
        }
        state.uses.take()
    }

    pub(super) fn put_back_uses(&self, taken: &[Use]) {
        let mut state = lock(&self.state);
        for one in taken {
            state.uses.add(one.clone());
        }
    }

    pub(super) fn tally(&self) -> Tally {
        let state = lock(&self.state);
        Tally {
            keys: state.queue.len(),
            uses: state.uses.total + state.queue.values().map(|entry| entry.uncollected()).sum::<i64>(),
            discarded_fills: state.discarded_fills,
            resets: state.resets,
        }
    }

    #[cfg(test)]
    pub(super) fn register(&self, keyspace: &str, scopes: &[String]) {
        lock(&self.state).registered.insert(keyspace.to_owned(), scopes.iter().cloned().collect());
    }
}

fn collect(state: &mut State, known: &Entry) {
    let count = known.uncollected();
    if count == 0 {
        return;
    }
    known.collected.fetch_add(count, Ordering::Relaxed);
    state.uses.note(Use {
        key_id: known.facts.principal.key_id.clone(),
        last_used: known.last_use.load(Ordering::Relaxed),
        address: *lock(&known.last_address),
        count,
    });
}
