//! What a holder knows of a key, and what it answers from that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::v1::{self, Principal, Reason, subject_change};

/// Something whose change makes facts out of date: `key:...`, `keyspace:...`, `account:...` or
/// `session:...`.
pub(super) type Subject = Arc<str>;

/// What is known of a key. It never changes.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) principal: Arc<Principal>,
    /// Places in the principal's effective scopes, by their order.
    scopes_in_order: Box<[u32]>,
    /// Why the key does not pass, whatever the time and address; `Reason::Ok` if it may.
    standing: Reason,
    /// In nanoseconds since the epoch.
    expires_at: Option<i64>,
    /// Each must have the caller's address.
    allow_lists: Box<[Box<[Network]>]>,
    pub(super) depends_on: Box<[Subject]>,
    /// Checks count against a rate limit, so the server answers them.
    pub(super) is_counted: bool,
}

impl Facts {
    /// Reads what the server tells of a key. `None`: it is nothing to remember.
    pub(super) fn of(response: &v1::FetchFactsResponse) -> Option<Self> {
        let told = response.facts.as_ref()?;
        let principal = told.principal.as_ref()?;
        let standing = told.standing();
        if !matches!(
            standing,
            Reason::Ok | Reason::KeyRevoked | Reason::KeyDisabled | Reason::AccountDisabled
        ) {
            return None; // of a later version: the server answers
        }
        let scopes = &principal.effective_scopes;
        let mut scopes_in_order: Vec<u32> = (0..u32::try_from(scopes.len()).ok()?).collect();
        scopes_in_order.sort_unstable_by_key(|&place| &scopes[place as usize]);
        let list = |list: &v1::AddressList| list.networks.iter().map(|text| Network::parse(text)).collect();
        Some(Self {
            principal: Arc::new(principal.clone()),
            scopes_in_order: scopes_in_order.into(),
            standing,
            expires_at: told.expire_time.as_ref().map(nanoseconds),
            allow_lists: told.address_lists.iter().map(list).collect::<Option<_>>()?,
            depends_on: told.depends_on.iter().map(|subject| Subject::from(subject.as_str())).collect(),
            is_counted: told.is_counted,
        })
    }

    /// Why the key does not pass, scopes aside; `Reason::Ok` if it does.
    pub(super) fn reason(&self, wall: i64, address: Option<IpAddr>) -> Reason {
        if self.standing == Reason::KeyRevoked {
            return self.standing;
        }
        if self.expires_at.is_some_and(|expires_at| wall >= expires_at) {
            return Reason::KeyExpired;
        }
        if self.standing != Reason::Ok {
            return self.standing;
        }
        let is_in =
            |list: &[Network]| address.is_some_and(|address| list.iter().any(|one| one.contains(address)));
        if self.allow_lists.iter().all(|list| is_in(list)) { Reason::Ok } else { Reason::AddressNotAllowed }
    }

    fn has(&self, scope: &str) -> bool {
        let scopes = &self.principal.effective_scopes;
        self.scopes_in_order.binary_search_by(|&place| scopes[place as usize].as_str().cmp(scope)).is_ok()
    }

    /// Those of the scopes that the key lacks, each once, in the order asked.
    pub(super) fn missing(&self, required: &[&str]) -> Vec<String> {
        let mut missing = Vec::new();
        for (index, scope) in required.iter().enumerate() {
            if !self.has(scope) && !required[..index].contains(scope) {
                missing.push((*scope).to_owned());
            }
        }
        missing
    }
}

fn nanoseconds(time: &prost_types::Timestamp) -> i64 {
    time.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(time.nanos))
}

/// What has changed. `None`: something of a kind that this version does not know.
pub(super) fn subject_of(change: &v1::SubjectChange) -> Option<Subject> {
    let (kind, id) = match change.subject.as_ref()? {
        subject_change::Subject::KeyId(id) => ("key", id),
        subject_change::Subject::Keyspace(name) => ("keyspace", name),
        subject_change::Subject::AccountId(id) => ("account", id),
        subject_change::Subject::SessionId(id) => ("session", id),
    };
    Some(format!("{kind}:{id}").into())
}

/// A caller's address. `Err`: it is none, and the server must say so. A zone means something on one
/// host alone, so there is none in an address.
pub(super) fn address_of(text: &str) -> Result<Option<IpAddr>, std::net::AddrParseError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse::<IpAddr>().map(|address| Some(address.to_canonical()))
}

/// The addresses that begin with the same bits.
#[derive(Debug)]
enum Network {
    V4 { bits: u32, mask: u32 },
    V6 { bits: u128, mask: u128 },
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let Some((address, length)) = text.split_once('/') else {
            return Some(match text.parse::<IpAddr>().ok()?.to_canonical() {
                IpAddr::V4(address) => Self::V4 { bits: address.to_bits(), mask: u32::MAX },
                IpAddr::V6(address) => Self::V6 { bits: address.to_bits(), mask: u128::MAX },
            });
        };
        if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let length: u32 = length.parse().ok()?;
        if let Ok(address) = address.parse::<Ipv4Addr>() {
            let mask = u32::MAX.checked_shl(32u32.checked_sub(length)?).unwrap_or(0);
            return Some(Self::V4 { bits: address.to_bits() & mask, mask });
        }
        let mask = u128::MAX.checked_shl(128u32.checked_sub(length)?).unwrap_or(0);
        let address = address.parse::<Ipv6Addr>().ok()?;
        Some(Self::V6 { bits: address.to_bits() & mask, mask })
    }

    fn contains(&self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::V4 { bits, mask }, IpAddr::V4(address)) => address.to_bits() & mask == *bits,
            (Self::V6 { bits, mask }, IpAddr::V6(address)) => address.to_bits() & mask == *bits,
            _ => false,
        }
    }
}
