//! How keys were used, to be reported.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::v1;

/// What is kept while the server is away. What comes beyond is not reported.
const MAX_USED_KEYS: usize = 100_000;
const NANOSECONDS: i64 = 1_000_000_000;
const SECONDS_OF_A_DAY: i64 = 86_400;

/// How a key was used on the day of the last time.
#[derive(Clone, Debug)]
pub(super) struct Use {
    pub(super) key_id: String,
    /// In nanoseconds since the epoch.
    pub(super) last_used: i64,
    pub(super) address: Option<IpAddr>,
    pub(super) count: i64,
}

impl Use {
    fn day(&self) -> i64 {
        self.last_used.div_euclid(NANOSECONDS * SECONDS_OF_A_DAY)
    }
}

#[derive(Debug, Default)]
pub(super) struct Uses {
    noted: HashMap<(String, i64), Use>,
    /// Checks that have passed, in all.
    pub(super) total: i64,
}

impl Uses {
    pub(super) fn note(&mut self, one: Use) {
        self.total += one.count;
        self.add(one);
    }

    /// Adds what was counted before.
    pub(super) fn add(&mut self, mut one: Use) {
        let place = (one.key_id.clone(), one.day());
        match self.noted.get(&place) {
            Some(known) => {
                one.count += known.count;
                if known.last_used > one.last_used {
                    one.last_used = known.last_used;
                    one.address = known.address;
                }
            }
            None if self.noted.len() >= MAX_USED_KEYS => return,
            None => {}
        }
        self.noted.insert(place, one);
    }

    pub(super) fn take(&mut self) -> Vec<Use> {
        std::mem::take(&mut self.noted).into_values().collect()
    }
}

pub(super) fn report_of(uses: &[Use]) -> v1::ReportUsesRequest {
    let reported = uses.iter().map(|one| {
        let time = prost_types::Timestamp {
            seconds: one.last_used.div_euclid(NANOSECONDS),
            nanos: i32::try_from(one.last_used.rem_euclid(NANOSECONDS)).unwrap_or(0),
        };
        let day = time.to_string().chars().take("2026-01-01".len()).collect();
        v1::ReportedUse {
            key_id: one.key_id.clone(),
            day,
            last_used_time: Some(time),
            last_used_address: one.address.map_or_else(String::new, |address| address.to_string()),
            count: one.count,
        }
    });
    v1::ReportUsesRequest { uses: reported.collect(), attempts: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::{Use, Uses, report_of};

    #[test]
    fn each_day_is_reported_by_itself() {
        let at = |seconds: i64, count| Use {
            key_id: "key_1".to_owned(),
            last_used: seconds * 1_000_000_000,
            address: None,
            count,
        };
        let mut uses = Uses::default();
        for one in [at(86_399, 1), at(10, 2), at(86_400, 4)] {
            uses.note(one);
        }
        assert_eq!(uses.total, 7);
        let mut reported = report_of(&uses.take()).uses;
        reported.sort_by(|one, other| one.day.cmp(&other.day));
        let told: Vec<_> = reported.iter().map(|one| (one.day.as_str(), one.count)).collect();
        assert_eq!(told, [("1970-01-01", 3), ("1970-01-02", 4)]);
        assert_eq!(reported[0].last_used_time.unwrap().seconds, 86_399);
        assert!(uses.take().is_empty());
    }
}
