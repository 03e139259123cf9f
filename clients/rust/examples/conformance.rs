//! Lets the conformance driver (conformance/README.md in the repository) speak to the holder: a line
//! of JSON in, a line of JSON out. With an argument, one guard is left out, which the driver must
//! notice.

use std::error::Error;
use std::io::{BufRead as _, Write as _, stdin, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use keyfence::holder::{Core, Fill, Guards, Moment};
use keyfence::{Check, v1};
use serde_json::{Value, json};
use v1::{subject_change::Subject, sync_response::Message};

fn main() -> Result<(), Box<dyn Error>> {
    let guards = match std::env::args().nth(1) {
        Some(name) => without(&name)?,
        None => Guards::default(),
    };
    let mut driven = Driven::new(guards);
    let mut out = stdout().lock();
    for line in stdin().lock().lines() {
        let command: Value = serde_json::from_str(&line?)?;
        if text(&command["do"]) == "start" {
            driven = Driven::new(guards);
        }
        writeln!(out, "{}", driven.answer(&command)?)?;
        out.flush()?;
    }
    Ok(())
}

fn without(name: &str) -> Result<Guards, String> {
    let mut guards = Guards::default();
    let left_out = match name {
        "count_from_sending" => &mut guards.count_from_arrival,
        "wait_for_head" => &mut guards.ignore_head,
        "forget_other_epoch" => &mut guards.ignore_epoch,
        "discard_overtaken_fills" => &mut guards.keep_overtaken_fills,
        "apply_before_ack" => &mut guards.acknowledge_first,
        "forget_unknown_changes" => &mut guards.ignore_unknown_changes,
        "refuse_gaps" => &mut guards.ignore_gaps,
        "forget_on_new_stream" => &mut guards.keep_across_streams,
        _ => return Err(format!("there is no guard {name:?}")),
    };
    *left_out = true;
    Ok(guards)
}

struct Driven {
    core: Core,
    now: Arc<AtomicI64>,
    fills: Vec<Fill>,
}

impl Driven {
    fn new(guards: Guards) -> Self {
        let now = Arc::new(AtomicI64::new(0));
        let read = Arc::clone(&now);
        let clock = Box::new(move || Moment::of(read.load(Ordering::Relaxed)));
        Self { core: Core::new(100, guards, clock, Box::new(|| 0)), now, fills: Vec::new() }
    }

    #[allow(clippy::cast_possible_truncation, reason = "virtual time is short")]
    fn answer(&mut self, command: &Value) -> Result<Value, String> {
        let seconds = command["now"].as_f64().unwrap_or_default();
        self.now.store((seconds * 1e9) as i64, Ordering::Relaxed);
        let key = text(&command["key"]);
        Ok(match text(&command["do"]) {
            "start" => json!({}),
            "begin" => {
                self.core.begin();
                json!({})
            }
            "renew" => {
                let renew = self.core.renewal();
                json!({"nonce": renew.nonce, "applied": renew.applied_revision})
            }
            "acknowledge" => match self.core.acknowledgement() {
                Some(renew) => json!({"applied": renew.applied_revision}),
                None => json!({}),
            },
            "take" => match self.core.take(&sync_response(&command["message"])) {
                Ok(_) => json!({}),
                Err(missing) => json!({"broken": missing.to_string()}),
            },
            "fill" => match self.core.begin_fill(key) {
                Some(fill) => {
                    let at_least = fill.at_least();
                    self.fills.push(fill);
                    json!({"fill": self.fills.len(), "at_least": at_least})
                }
                None => json!({}),
            },
            "facts" => {
                let place =
                    usize::try_from(number(&command["fill"]) - 1).map_err(|error| error.to_string())?;
                self.core.end_fill(&self.fills[place], key, &facts_response(&command["message"]));
                json!({})
            }
            "check" => match self.core.answer(&Check::key(key).scopes(&[text(&command["scope"])])) {
                Some(verdict) => {
                    json!({"reason": verdict.reason.as_str_name().trim_start_matches("REASON_")})
                }
                None => json!({}),
            },
            unknown => return Err(format!("there is no command {unknown:?}")),
        })
    }
}

// Messages in the JSON of protobuf, as far as the driver speaks it.

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn owned(value: &Value) -> String {
    text(value).to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(owned).collect()
}

/// A number, which 64 bits write as a text.
fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| text(value).parse().unwrap_or_default())
}

fn duration(value: &Value) -> Option<prost_types::Duration> {
    let seconds: f64 = text(value).strip_suffix('s')?.parse().ok()?;
    prost_types::Duration::try_from(std::time::Duration::from_secs_f64(seconds)).ok()
}

fn sync_response(message: &Value) -> v1::SyncResponse {
    let (lease, changes) = (&message["lease"], &message["changes"]);
    let message = if lease.is_object() {
        Message::Lease(v1::Lease {
            nonce: number(&lease["nonce"]),
            ttl: duration(&lease["ttl"]),
            head_revision: number(&lease["headRevision"]),
            epoch: owned(&lease["epoch"]),
            ..v1::Lease::default()
        })
    } else if changes.is_object() {
        let all = changes["changes"].as_array().into_iter().flatten();
        Message::Changes(v1::RevisionChanges {
            revision: number(&changes["revision"]),
            changes: all.map(change).collect(),
            first_revision: number(&changes["firstRevision"]),
        })
    } else {
        Message::End(v1::End {})
    };
    v1::SyncResponse { message: Some(message) }
}

fn change(change: &Value) -> v1::SubjectChange {
    let named = |field: &str| change.get(field).map(owned);
    let subject = named("keyId")
        .map(Subject::KeyId)
        .or_else(|| named("keyspace").map(Subject::Keyspace))
        .or_else(|| named("accountId").map(Subject::AccountId))
        .or_else(|| named("sessionId").map(Subject::SessionId));
    v1::SubjectChange { subject, ..v1::SubjectChange::default() }
}

fn facts_response(message: &Value) -> v1::FetchFactsResponse {
    let facts = &message["facts"];
    let principal = &facts["principal"];
    let standing = v1::Reason::from_str_name(text(&facts["standing"])).unwrap_or_default();
    v1::FetchFactsResponse {
        revision: number(&message["revision"]),
        epoch: owned(&message["epoch"]),
        well_formed: true,
        facts: Some(v1::KeyFacts {
            principal: Some(v1::Principal {
                key_id: owned(&principal["keyId"]),
                keyspace: owned(&principal["keyspace"]),
                account_id: owned(&principal["accountId"]),
                effective_scopes: texts(&principal["effectiveScopes"]),
                ..v1::Principal::default()
            }),
            standing: standing.into(),
            depends_on: texts(&facts["dependsOn"]),
            ..v1::KeyFacts::default()
        }),
        ..v1::FetchFactsResponse::default()
    }
}
