//! Lets the repository's table of scenarios, torture and benchmark call the client: a line of JSON
//! in, a line of JSON out.

use std::error::Error;
use std::io::Write as _;
use std::time::{Duration, Instant};

use keyfence::{Batching, Cache, Check, Client, Verdict};
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = Runtime::new()?;
    // A client is built inside a runtime.
    let _entered = runtime.enter();
    let mut out = std::io::stdout();
    let mut client = None;
    for line in std::io::stdin().lines() {
        let command: Value = serde_json::from_str(&line?)?;
        let answer = if text(&command, "do") == "open" {
            client = Some(open(&command)?);
            json!({})
        } else {
            let client = client.as_ref().ok_or("the first command must be open")?;
            runtime.block_on(answer(client, &command))?
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    if let Some(client) = client {
        runtime.block_on(client.close());
    }
    Ok(())
}

fn open(command: &Value) -> Result<Client, keyfence::Error> {
    let builder = Client::builder(text(command, "target")).token(text(command, "token"));
    match text(command, "mode") {
        "cached" => builder.cache(Cache::default()).build(),
        "batched" => builder.batching(Batching::default()).build(),
        _ => builder.build(),
    }
}

async fn answer(client: &Client, command: &Value) -> Result<Value, String> {
    let client = match command["timeout_seconds"].as_f64() {
        Some(seconds) => client.with_timeout(Duration::from_secs_f64(seconds)),
        None => client.clone(),
    };
    let scopes = scopes_of(command);
    Ok(match text(command, "do") {
        "check" => answered(client.check_scope(question(command, &scopes)).await),
        "authenticate" => answered(client.authenticate(question(command, &scopes)).await),
        "batch" => {
            let asked = command["checks"].as_array().map_or(&[][..], Vec::as_slice);
            let scopes: Vec<Vec<&str>> = asked.iter().map(scopes_of).collect();
            let checks: Vec<Check<'_>> =
                asked.iter().zip(&scopes).map(|(one, scopes)| question(one, scopes)).collect();
            match client.batch_check_scope(&checks).await {
                Ok(results) => json!({"results": results.into_iter().map(answered).collect::<Vec<_>>()}),
                Err(error) => json!({"error": failure(&error)}),
            }
        }
        "together" => {
            let asked = command["checks"].as_array().map_or(&[][..], Vec::as_slice);
            let mut answers = Vec::new();
            for one in asked {
                let (client, one) = (client.clone(), one.clone());
                answers.push(tokio::spawn(async move {
                    let scopes = scopes_of(&one);
                    answered(client.check_scope(question(&one, &scopes)).await)
                }));
            }
            let mut results = Vec::new();
            for one in answers {
                results.push(one.await.map_err(|error| error.to_string())?);
            }
            json!({"results": results})
        }
        "who_am_i" => match client.who_am_i().await {
            Ok(principal) => json!({"key_id": principal.key_id, "account_id": principal.account_id}),
            Err(error) => json!({"error": failure(&error)}),
        },
        "status" => {
            let status = client.cache_status().unwrap_or_default();
            json!({"live": status.is_live, "hits": status.hits})
        }
        "measure" => measured(&client, command).await?,
        "memory" => json!({"bytes": resident_bytes()}),
        unknown => return Err(format!("there is no command {unknown:?}")),
    })
}

/// Makes the same check many times, so many at once, and says how long the timed ones took.
async fn measured(client: &Client, command: &Value) -> Result<Value, String> {
    let count = command["count"].as_u64().unwrap_or(1);
    let at_once = command["at_once"].as_u64().unwrap_or(1);
    let every = command["timed_every"].as_u64().unwrap_or(1);
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..at_once {
        let (client, command) = (client.clone(), command.clone());
        asking.spawn(async move {
            let scopes = scopes_of(&command);
            let mut took = Vec::new();
            for number in 0..count / at_once {
                let began = (number % every == 0).then(Instant::now);
                let verdict = client.check_scope(question(&command, &scopes)).await;
                took.extend(began.map(|began| began.elapsed()));
                if !verdict.is_ok_and(|verdict| verdict.allowed) {
                    return Err("a check was not allowed".to_owned());
                }
            }
            Ok(took)
        });
    }
    let mut took = Vec::new();
    while let Some(some) = asking.join_next().await {
        took.extend(some.map_err(|error| error.to_string())??);
    }
    took.sort_unstable();
    let at = |part: usize| took[took.len() * part / 100].as_secs_f64() * 1e6;
    Ok(json!({"p50_us": at(50), "p99_us": at(99)}))
}

/// What the process has of the machine's memory, since the heap of Rust is not counted.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0u64) * 4096
}

fn text<'a>(command: &'a Value, name: &str) -> &'a str {
    command[name].as_str().unwrap_or_default()
}

fn scopes_of(command: &Value) -> Vec<&str> {
    command["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn question<'a>(command: &'a Value, scopes: &'a [&'a str]) -> Check<'a> {
    let check = Check::key(text(command, "api_key"))
        .scopes(scopes)
        .keyspace(text(command, "keyspace"))
        .client_address(text(command, "client_address"))
        .at_least_revision(command["at_least_revision"].as_i64().unwrap_or_default());
    if command["explain"] == true { check.explain() } else { check }
}

fn answered(result: Result<Verdict, keyfence::Error>) -> Value {
    let verdict = match result {
        Ok(verdict) => verdict,
        Err(error) => return json!({"error": failure(&error)}),
    };
    let mut told = Map::new();
    told.insert("allowed".to_owned(), verdict.allowed.into());
    told.insert("reason".to_owned(), verdict.reason.as_str_name().trim_start_matches("REASON_").into());
    told.insert("missing_scopes".to_owned(), verdict.missing_scopes.into());
    if let Some(principal) = verdict.principal {
        told.insert("key_id".to_owned(), principal.key_id.as_str().into());
        told.insert("account_id".to_owned(), principal.account_id.as_str().into());
    }
    if let Some(explanation) = verdict.explanation {
        told.insert("sufficient_grants".to_owned(), explanation.sufficient_grants.into());
    }
    told.into()
}

fn failure(error: &keyfence::Error) -> Value {
    let Some(failed) = error.failed() else {
        return json!({"status": error.to_string()});
    };
    let fields: Vec<&str> = failed.violations.iter().map(|one| one.field.as_str()).collect();
    json!({
        "status": status(failed.code),
        "reason": failed.reason,
        "metadata": failed.metadata,
        "fields": fields,
        "has_request_id": !failed.request_id.is_empty(),
    })
}

/// The name of a code as gRPC writes it: `InvalidArgument` is `INVALID_ARGUMENT`.
fn status(code: keyfence::Code) -> String {
    let mut name = String::new();
    for character in format!("{code:?}").chars() {
        if character.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(character.to_ascii_uppercase());
    }
    name
}
