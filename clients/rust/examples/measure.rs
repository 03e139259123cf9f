//! Measures what a check from memory costs, how much memory a key takes, and what batches save:
//!
//! ```sh
//! cargo run --release --example measure --features testing
//! ```
//!
//! The server is a real one where there is a command `keyfence` (or `KEYFENCE_COMMAND`); without it
//! the last measurement is left out. Processor times are those of Linux.

use std::error::Error;
use std::fs;
use std::time::Instant;

use keyfence::testing::{FakeServer, Process, keyspace};
use keyfence::{Batching, Cache, Check, Client, v1};

const HITS: u32 = 1_000_000;
const KEYS: usize = 10_000;
const ROUNDS: usize = 200;
const AT_ONCE: usize = 32;
/// Of a clock tick, which Linux gives processes' times in.
const MILLISECONDS_OF_A_TICK: u64 = 10;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = FakeServer::start([keyspace("demo", &["vps:read"])]);
    let client = server.builder().cache(Cache::default()).build()?;
    hits(&server, &client).await?;
    memory(&server, &client).await?;
    if let Some(process) = Process::start(&[]).await {
        batches(&process).await?;
    }
    client.close().await;
    Ok(())
}

async fn hits(server: &FakeServer, client: &Client) -> Result<(), Box<dyn Error>> {
    let key = server.create_key("demo", &["vps:read"]).await.api_key;
    let check = Check::key(&key).scopes(&["vps:read"]).keyspace("demo");
    until_live(client).await?;
    assert!(client.check_scope(check).await?.allowed);
    let before = client.cache_status().unwrap_or_default().hits;
    let mut times = Vec::with_capacity(HITS as usize);
    for _ in 0..HITS {
        let began = Instant::now();
        let verdict = client.check_scope(check).await?;
        times.push(began.elapsed().as_nanos());
        assert!(verdict.allowed);
    }
    let (began, cpu) = (Instant::now(), cpu_ticks("self")?);
    for _ in 0..5 * HITS {
        assert!(client.check_scope(check).await?.allowed);
    }
    let wall = began.elapsed() / (5 * HITS);
    let cpu = (cpu_ticks("self")? - cpu) * MILLISECONDS_OF_A_TICK * 1_000_000 / u64::from(5 * HITS);
    let from_memory = client.cache_status().unwrap_or_default().hits - before;
    times.sort_unstable();
    println!(
        "a hit: {cpu} ns of processor time, {} ns by the clock; one by one, with two readings of the \
         clock, p50 {} ns, p99 {} ns; {from_memory} of {} checks were hits",
        wall.as_nanos(),
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        6 * HITS,
    );
    Ok(())
}

async fn memory(server: &FakeServer, client: &Client) -> Result<(), Box<dyn Error>> {
    let mut keys = Vec::new();
    for _ in 0..2 * KEYS {
        // Without the stream's message for each key, which would measure the fake.
        keys.push(server.create_key("demo", &["vps:read"]).await.api_key);
    }
    let (first, second) = keys.split_at(KEYS / 10);
    for key in first {
        assert!(client.check_scope(Check::key(key).scopes(&["vps:read"])).await?.allowed);
    }
    let (known, before) = (client.cache_status().unwrap_or_default().keys, resident_bytes()?);
    for key in second.iter().take(KEYS * 9 / 10 - 100) {
        assert!(client.check_scope(Check::key(key).scopes(&["vps:read"])).await?.allowed);
    }
    let more = client.cache_status().unwrap_or_default().keys - known;
    println!("a cached key: {} bytes, of {more}", resident_bytes()?.saturating_sub(before) / more);
    Ok(())
}

async fn batches(process: &Process) -> Result<(), Box<dyn Error>> {
    let operator = process.builder().build()?;
    let keyspace = Some(keyspace("demo", &["vps:read"]));
    operator.keyspaces().apply_keyspace(v1::ApplyKeyspaceRequest { keyspace, ..Default::default() }).await?;
    let request = v1::CreateKeyRequest {
        keyspace: "demo".to_owned(),
        account_id: "acct_1".to_owned(),
        scopes: vec!["vps:read".to_owned()],
        ..Default::default()
    };
    let key = operator.keys().create_key(request).await?.api_key;
    let batched = process.builder().batching(Batching::default()).build()?;
    let mut costs = Vec::new();
    for client in [&operator, &batched] {
        rounds(client, &key, 20).await?;
        let before = cpu_ticks(&process.id().to_string())?;
        rounds(client, &key, ROUNDS).await?;
        costs.push((cpu_ticks(&process.id().to_string())? - before) * MILLISECONDS_OF_A_TICK);
    }
    let each = |cost: u64| cost * 1000 / (ROUNDS * AT_ONCE) as u64;
    println!(
        "{AT_ONCE} checks at once, server's processor time for one: {} µs by calls, {} µs in batches ({} % of it)",
        each(costs[0]),
        each(costs[1]),
        100 * costs[1] / costs[0].max(1),
    );
    Ok(())
}

async fn rounds(client: &Client, key: &str, count: usize) -> Result<(), Box<dyn Error>> {
    for _ in 0..count {
        let mut checks = tokio::task::JoinSet::new();
        for _ in 0..AT_ONCE {
            let (client, key) = (client.clone(), key.to_owned());
            checks.spawn(async move { client.check_scope(Check::key(&key).scopes(&["vps:read"])).await });
        }
        while let Some(result) = checks.join_next().await {
            assert!(result??.allowed);
        }
    }
    Ok(())
}

async fn until_live(client: &Client) -> Result<(), Box<dyn Error>> {
    while !client.cache_status().unwrap_or_default().is_live {
        let _ = client.authenticate(Check::key("kf_live_none")).await?;
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    Ok(())
}

fn cpu_ticks(process: &str) -> Result<u64, Box<dyn Error>> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
}

fn resident_bytes() -> Result<usize, Box<dyn Error>> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages: usize = statm.split_whitespace().nth(1).unwrap_or_default().parse()?;
    Ok(pages * 4096)
}
