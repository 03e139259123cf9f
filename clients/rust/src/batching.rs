//! Checks that are under way at the same time share messages.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use prost::Message as _;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tonic::Code;

use crate::errors::CallError;
use crate::options::lock;
use crate::transport::{CallOptions, Transport, out_of_time};
use crate::v1::{self, batch_check_scope_result::Result as Answer};
use crate::{Error, Verdict};

const DEFAULT_CHECKS: usize = 64;
const MAX_CHECKS: usize = 256;
/// A batch may have 512 KiB. A very long presented key must not fail the other checks of its
/// message, so a check that is larger than this is sent alone.
const MAX_BATCHED_CHECK_BYTES: usize = 1536;

/// How checks that are under way at the same time share messages. An error of such a check has no
/// violations, which batches do not carry; its message names the fields.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Batching {
    /// How many checks one message carries at most: 1 to 256.
    pub max_checks: usize,
}

impl Default for Batching {
    fn default() -> Self {
        Self { max_checks: DEFAULT_CHECKS }
    }
}

impl Batching {
    /// At most so many checks in one message: 1 to 256.
    #[must_use]
    pub fn max_checks(mut self, count: usize) -> Self {
        self.max_checks = count;
        self
    }
}

/// Sends one batch at a time, and has the checks that come meanwhile wait for the next one. So a
/// lone check is sent at once, and the more there are, the more share a message. A batch that is
/// full does not wait for the one that is under way.
#[derive(Clone, Debug)]
pub(crate) struct Batcher {
    transport: Arc<Transport>,
    max: usize,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    is_sending: bool,
}

#[derive(Debug)]
struct Waiting {
    request: v1::CheckScopeRequest,
    deadline: Instant,
    result: oneshot::Sender<Result<Verdict, Error>>,
}

impl Batcher {
    pub(crate) fn new(transport: Arc<Transport>, batching: &Batching) -> Result<Self, Error> {
        if !(1..=MAX_CHECKS).contains(&batching.max_checks) {
            return Err(Error::invalid(format!("Batching::max_checks must be 1 to {MAX_CHECKS}")));
        }
        Ok(Self { transport, max: batching.max_checks, queue: Arc::default() })
    }

    pub(crate) async fn check(
        &self,
        request: v1::CheckScopeRequest,
        deadline: Instant,
    ) -> Result<Verdict, Error> {
        if request.encoded_len() > MAX_BATCHED_CHECK_BYTES {
            return self.alone(request, deadline).await;
        }
        let (sender, result) = oneshot::channel();
        self.add(Waiting { request: request.clone(), deadline, result: sender });
        match timeout_at(deadline, result).await {
            Ok(Ok(Err(error))) if was_left_out(&error) => self.alone(request, deadline).await,
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::call(Code::Unavailable, "the batch was given up")),
            Err(_) => Err(out_of_time()),
        }
    }

    async fn alone(&self, request: v1::CheckScopeRequest, deadline: Instant) -> Result<Verdict, Error> {
        let options = CallOptions { credential: None, deadline: Some(deadline) };
        self.transport.call(request, &options).await.map(Verdict::from)
    }

    fn add(&self, one: Waiting) {
        let mut queue = lock(&self.queue);
        queue.waiting.push_back(one);
        if !queue.is_sending {
            queue.is_sending = true;
            tokio::spawn(self.clone().send());
        } else if queue.waiting.len() >= self.max {
            let batch = self.take(&mut queue);
            let batcher = self.clone();
            tokio::spawn(async move { batcher.send_one(batch).await });
        }
    }

    /// The checks of the next batch.
    fn take(&self, queue: &mut Queue) -> Vec<Waiting> {
        let count = queue.waiting.len().min(self.max);
        queue.waiting.drain(..count).collect()
    }

    async fn send(self) {
        loop {
            // Callers that have just been answered, or begin now, come along if they have their turn first.
            tokio::task::yield_now().await;
            let batch = {
                let mut queue = lock(&self.queue);
                if queue.waiting.is_empty() {
                    queue.is_sending = false;
                    return;
                }
                self.take(&mut queue)
            };
            self.send_one(batch).await;
        }
    }

    async fn send_one(&self, mut batch: Vec<Waiting>) {
        // Whose caller has gone need not be asked.
        batch.retain(|one| !one.result.is_closed());
        // One caller's giving up must not fail the others' checks.
        let Some(deadline) = batch.iter().map(|one| one.deadline).max() else { return };
        let checks: Vec<_> = batch.iter_mut().map(|one| std::mem::take(&mut one.request)).collect();
        let options = CallOptions { credential: None, deadline: Some(deadline) };
        match batch_check(&self.transport, checks, &options).await {
            Ok(results) => {
                for (one, result) in batch.into_iter().zip(results) {
                    let _ = one.result.send(result);
                }
            }
            Err(error) => {
                for one in batch {
                    let _ = one.result.send(Err(error.clone()));
                }
            }
        }
    }
}

/// Whether the server has not looked at the check, because the answers of its batch were too large.
/// It counts against no rate limit then, and may be sent alone.
fn was_left_out(error: &Error) -> bool {
    error.failed().is_some_and(|failed| {
        failed.code == Code::ResourceExhausted
            && failed.metadata.get("limit").is_some_and(|limit| limit == "answer_bytes")
    })
}

/// Asks several questions in one call: a result for each, in order.
pub(crate) async fn batch_check(
    transport: &Transport,
    checks: Vec<v1::CheckScopeRequest>,
    options: &CallOptions,
) -> Result<Vec<Result<Verdict, Error>>, Error> {
    let keys: Vec<String> = checks.iter().map(|one| one.api_key.clone()).collect();
    let response = transport.call(v1::BatchCheckScopeRequest { checks }, options).await?;
    if response.results.len() != keys.len() {
        return Err(Error::call(
            Code::Internal,
            "the server answered another number of checks than were asked",
        ));
    }
    let read = |(answer, key): (v1::BatchCheckScopeResult, String)| match answer.result {
        Some(Answer::Response(response)) => Ok(response.into()),
        Some(Answer::Error(fault)) => Err(fault_of(fault, &key)),
        None => Err(Error::call(
            Code::Internal,
            "the server answered a check with neither a verdict nor an error",
        )),
    };
    Ok(response.results.into_iter().zip(keys).map(read).collect())
}

fn fault_of(fault: v1::CheckError, key: &str) -> Error {
    let mut made = CallError::new(Code::from_i32(fault.code), &fault.message);
    made.reason = fault.reason;
    made.metadata = fault.metadata.into_iter().collect();
    made.without(&[key]).into()
}
