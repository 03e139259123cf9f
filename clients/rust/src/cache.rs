//! Checks answered from memory.

use std::time::Duration;

use crate::Error;

const DEFAULT_MAX_KEYS: usize = 10_000;

/// Asks for checks to be answered from memory: see [`crate::ClientBuilder::cache`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Cache {
    /// How many keys to remember, those that were asked for lately.
    pub max_keys: usize,
}

impl Default for Cache {
    fn default() -> Self {
        Self { max_keys: DEFAULT_MAX_KEYS }
    }
}

impl Cache {
    /// Remembers at most so many keys.
    #[must_use]
    pub fn max_keys(mut self, count: usize) -> Self {
        self.max_keys = count;
        self
    }

    pub(crate) fn verify(&self) -> Result<(), Error> {
        if self.max_keys == 0 {
            return Err(Error::invalid("Cache::max_keys must be at least 1"));
        }
        Ok(())
    }
}

/// How a client's cache is doing.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CacheStatus {
    /// Whether checks may be answered from memory now.
    pub is_live: bool,
    /// How long that lasts if nothing more is heard; zero if it has ended.
    pub lease_left: Duration,
    /// The revision up to which every change is applied.
    pub applied_revision: i64,
    /// How many keys are remembered.
    pub keys: usize,
    /// How many checks were answered from memory.
    pub hits: i64,
    /// How often what the server told of a key was not remembered, because something had changed
    /// meanwhile.
    pub discarded_fills: i64,
    /// How often everything had to be forgotten, because the connection was lost.
    pub resets: i64,
}
