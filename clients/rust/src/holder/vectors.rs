//! What every holder must do: spec/vectors of the repository.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde_json::{Map, Value};

use super::Guards;
use super::clock::Moment;
use super::core::Core;
use super::lease::Lease;
use super::memory::Memory;
use crate::v1::{self, Reason, subject_change::Subject, sync_response};
use crate::{Check, Verdict};

const KEY: &str = "kf_live_key";

fn vectors(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

#[allow(clippy::cast_possible_truncation, reason = "times of vectors are small")]
fn at(seconds: &Value) -> Moment {
    Moment::of((seconds.as_f64().unwrap() * 1e9) as i64)
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|one| text(one).to_owned()).collect()
}

#[test]
fn leases_count_as_the_vectors_say() {
    for one in vectors("leases.json").as_array().unwrap() {
        let mut lease = Lease::new(Guards::default());
        for (index, step) in one["steps"].as_array().unwrap().iter().enumerate() {
            let name = format!("{}, step {index}: {step}", one["name"]);
            match text(&step["do"]) {
                "request" => assert_eq!(lease.request(at(&step["now"])), number(&step["nonce"]), "{name}"),
                "grant" => {
                    let mut has_forgotten = false;
                    let ttl = Duration::from_secs_f64(step["ttl"].as_f64().unwrap());
                    let (nonce, head) = (number(&step["nonce"]), number(&step["head"]));
                    let forget = || has_forgotten = true;
                    lease.grant(at(&step["now"]), nonce, ttl, head, text(&step["epoch"]), forget);
                    assert_eq!(Value::from(has_forgotten), step["forget"], "{name}");
                }
                "advance" => lease.advance_to(number(&step["revision"])),
                "abandon" => lease.abandon(),
                "live" => {
                    assert_eq!(
                        Value::from(lease.published().is_live(at(&step["now"]))),
                        step["is"],
                        "{name}"
                    );
                }
                "applied" => assert_eq!(lease.applied().unwrap_or(0), number(&step["is"]), "{name}"),
                _ => panic!("{name}"),
            }
        }
    }
}

#[test]
fn one_clock_ends_a_lease_whatever_the_other_says() {
    let mut lease = Lease::new(Guards::default());
    let moment = |first, second| Moment { first, second };
    let ttl = Duration::from_nanos(10);
    let nonce = lease.request(moment(100, 1000));
    lease.grant(moment(0, 0), nonce, ttl, 1, "a", || {});
    let published = lease.published();
    for (now, is_live, why) in [
        (moment(109, 1009), true, "neither has reached the end"),
        (moment(110, 1001), false, "the monotonic clock has"),
        (moment(105, 999), false, "the wall clock was set back"),
        (moment(101, 1010), false, "the machine has slept"),
    ] {
        assert_eq!(published.is_live(now), is_live, "{why}");
    }
    // The wall clock was set back before the second grant. The first one's must not outlast it.
    let nonce = lease.request(moment(105, 500));
    lease.grant(moment(0, 0), nonce, ttl, 1, "a", || {});
    assert!(!published.is_live(moment(106, 900)), "two grants were mixed");
}

/// The facts of a vector as the server tells them.
fn response(facts: &Map<String, Value>, revision: i64, epoch: &str) -> v1::FetchFactsResponse {
    let keyspace = text(&facts["keyspace"]);
    let account = text(&facts["account_id"]);
    let standing = format!("REASON_{}", text(&facts["standing"]));
    let list = |list: &Value| v1::AddressList { networks: texts(list) };
    let expires_at = facts.get("expires_at").and_then(Value::as_i64);
    v1::FetchFactsResponse {
        revision,
        epoch: epoch.to_owned(),
        well_formed: true,
        facts: Some(v1::KeyFacts {
            principal: Some(v1::Principal {
                key_id: "key_1".to_owned(),
                keyspace: keyspace.to_owned(),
                account_id: account.to_owned(),
                effective_scopes: facts.get("scopes").map(texts).unwrap_or_default(),
                ..v1::Principal::default()
            }),
            standing: Reason::from_str_name(&standing).unwrap().into(),
            expire_time: expires_at.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 }),
            address_lists: facts
                .get("allow_lists")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .map(list)
                .collect(),
            is_counted: facts.get("is_counted").and_then(Value::as_bool).unwrap_or(false),
            depends_on: vec![
                "key:key_1".to_owned(),
                format!("keyspace:{keyspace}"),
                format!("account:{account}"),
            ],
        }),
        ..v1::FetchFactsResponse::default()
    }
}

fn plain_facts() -> Map<String, Value> {
    let facts = serde_json::json!({"keyspace": "demo", "account_id": "acct_1", "standing": "OK"});
    facts.as_object().unwrap().clone()
}

fn overlaid(good: &Value, own: &Value) -> Map<String, Value> {
    let mut all = good.as_object().unwrap().clone();
    all.extend(own.as_object().cloned().unwrap_or_default());
    all
}

/// A holder with a lease of one second, in the middle of it.
fn started(head: i64, epoch: &str, wall: i64) -> Core {
    let core =
        Core::new(10, Guards::default(), Box::new(|| Moment::of(1)), Box::new(move || wall * 1_000_000_000));
    let renewal = core.renewal();
    let lease = v1::Lease {
        nonce: renewal.nonce,
        ttl: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        head_revision: head,
        epoch: epoch.to_owned(),
        ..v1::Lease::default()
    };
    core.take(&v1::SyncResponse { message: Some(sync_response::Message::Lease(lease)) }).unwrap();
    core
}

#[test]
fn checks_are_answered_as_the_vectors_say() {
    let read = vectors("decisions.json");
    for one in read["cases"].as_array().unwrap() {
        let name = text(&one["name"]);
        let facts = overlaid(&read["good"]["facts"], &one["facts"]);
        let question = overlaid(&read["good"]["question"], &one["question"]);
        let core = started(10, "a", number(&question["now"]));
        core.memory.register(text(&facts["keyspace"]), &texts(&facts["registered"]));
        let fill = core.begin_fill(KEY).unwrap();
        core.end_fill(&fill, KEY, &response(&facts, 10, "a"));
        let scopes = texts(&question["required_scopes"]);
        let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
        let check = Check::key(KEY)
            .scopes(&scopes)
            .keyspace(text(&question["keyspace"]))
            .client_address(text(&question["client_address"]))
            .at_least_revision(number(&question["at_least_revision"]));
        let told = |verdict: Verdict| {
            assert_eq!(verdict.allowed, verdict.reason == Reason::Ok, "{name}");
            (verdict.reason.as_str_name().trim_start_matches("REASON_").to_owned(), verdict.missing_scopes)
        };
        let expected = match &one["answer"] {
            Value::Null => None,
            answer => Some((text(&answer["reason"]).to_owned(), texts(&answer["missing_scopes"]))),
        };
        assert_eq!(core.answer(&check).map(told), expected, "{name}");
    }
}

#[test]
fn fills_are_kept_as_the_vectors_say() {
    for one in vectors("fills.json").as_array().unwrap() {
        let memory = Memory::new(10, Guards::default());
        let facts = plain_facts();
        let mut fill = None;
        for (index, step) in one["steps"].as_array().unwrap().iter().enumerate() {
            let name = format!("{}, step {index}: {step}", one["name"]);
            match text(&step["do"]) {
                "start" => memory.forget_everything(number(&step["head"]), text(&step["epoch"])),
                "begin" => fill = Some(memory.begin_fill()),
                "end" => {
                    let answer = response(&facts, number(&step["revision"]), text(&step["epoch"]));
                    let is_kept = memory.end_fill(fill.as_ref().unwrap(), KEY, &answer);
                    assert_eq!(Value::from(is_kept), step["kept"], "{name}");
                }
                "known" => assert_eq!(Value::from(memory.find(KEY).is_some()), step["is"], "{name}"),
                "change" => {
                    memory.apply(&changes(number(&step["revision"]), subject(step)));
                }
                _ => panic!("{name}"),
            }
        }
    }
}

fn subject(step: &Value) -> Option<Subject> {
    let named = |field: &str| step.get(field).map(|value| text(value).to_owned());
    named("key_id")
        .map(Subject::KeyId)
        .or_else(|| named("keyspace").map(Subject::Keyspace))
        .or_else(|| named("account_id").map(Subject::AccountId))
        .or_else(|| named("session_id").map(Subject::SessionId))
}

fn changes(revision: i64, subject: Option<Subject>) -> v1::RevisionChanges {
    let change = v1::SubjectChange { subject, ..v1::SubjectChange::default() };
    v1::RevisionChanges { revision, changes: vec![change], ..v1::RevisionChanges::default() }
}

#[test]
fn when_the_grantor_ends_the_lease_nothing_is_remembered() {
    let core = started(5, "a", 1);
    let fill = core.begin_fill(KEY).unwrap();
    core.end_fill(&fill, KEY, &response(&plain_facts(), 5, "a"));
    assert!(core.answer(&Check::key(KEY)).is_some());
    core.take(&v1::SyncResponse { message: Some(sync_response::Message::End(v1::End {})) }).unwrap();
    assert!(core.answer(&Check::key(KEY)).is_none());
    assert_eq!(core.status().keys, 0);
}

#[test]
fn memory_is_bounded_and_keeps_what_is_asked_for() {
    let memory = Memory::new(3, Guards::default());
    memory.forget_everything(1, "a");
    let keep =
        |key: &str| assert!(memory.end_fill(&memory.begin_fill(), key, &response(&plain_facts(), 1, "a")));
    for key in ["a", "b", "c", "d"] {
        keep(key);
    }
    assert_eq!(memory.tally().keys, 3);
    assert!(memory.find("a").is_none(), "the oldest goes");
    memory.find("b").unwrap();
    keep("e");
    assert!(memory.find("b").is_some(), "it was asked for");
    assert!(memory.find("c").is_none(), "it was not");
    assert_eq!(memory.tally().keys, 3);
    memory.apply(&changes(2, Some(Subject::Keyspace("demo".to_owned()))));
    assert_eq!(memory.tally().keys, 0);
}

#[test]
fn uses_of_keys_that_are_forgotten_are_reported() {
    let core = started(5, "a", 7);
    let fill = core.begin_fill(KEY).unwrap();
    core.end_fill(&fill, KEY, &response(&plain_facts(), 5, "a"));
    for _ in 0..3 {
        assert!(core.answer(&Check::key(KEY).client_address("10.0.0.1")).unwrap().allowed);
    }
    core.memory.apply(&changes(6, Some(Subject::KeyId("key_1".to_owned()))));
    assert_eq!(core.status().hits, 3);
    let taken = core.memory.take_uses();
    assert_eq!(taken.iter().map(|one| one.count).sum::<i64>(), 3);
    assert!(core.memory.take_uses().is_empty());
    core.memory.put_back_uses(&taken);
    assert_eq!(core.memory.take_uses().len(), 1);
    assert_eq!(core.status().hits, 3);
}

#[test]
fn checks_and_changes_at_the_same_time_leave_nothing_stale() {
    let core = Arc::new(started(0, "a", 1));
    let applied = Arc::new(AtomicI64::new(0));
    let reader = {
        let (core, applied) = (Arc::clone(&core), Arc::clone(&applied));
        std::thread::spawn(move || {
            while applied.load(Ordering::SeqCst) < 2_000 {
                let before = applied.load(Ordering::SeqCst);
                if let Some(verdict) = core.answer(&Check::key(KEY)) {
                    assert!(verdict.revision >= before);
                }
            }
        })
    };
    for revision in 1..=2_000 {
        if let Some(fill) = core.begin_fill(KEY) {
            core.end_fill(&fill, KEY, &response(&plain_facts(), revision - 1, "a"));
        }
        let changes = changes(revision, Some(Subject::KeyId("key_1".to_owned())));
        core.take(&v1::SyncResponse { message: Some(sync_response::Message::Changes(changes)) }).unwrap();
        assert!(core.answer(&Check::key(KEY)).is_none(), "a key was answered after its change");
        applied.store(revision, Ordering::SeqCst);
    }
    reader.join().unwrap();
}
