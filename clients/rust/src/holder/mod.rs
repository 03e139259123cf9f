//! Answers checks from memory, under a lease: docs/holder-protocol.md of the repository specifies
//! it. It knows nothing of the client.

mod clock;
mod core;
mod facts;
mod lease;
mod memory;
mod uses;
#[cfg(test)]
mod vectors;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

#[cfg(feature = "conformance")]
pub use self::clock::Moment;
pub use self::core::Core;
#[cfg(feature = "conformance")]
pub use self::core::RevisionMissing;
pub use self::memory::Fill;
use self::uses::report_of;
use crate::errors::CallError;
use crate::options::lock;
use crate::secret::{random_between, random_text};
use crate::transport::{CallOptions, Transport, authorize};
use crate::v1::{self, sync_request, sync_response};
use crate::{CacheStatus, Check, Verdict};

const SYNC: &str = "/keyfence.v1.ReplicationService/Sync";
const PROTOCOL_VERSION: i32 = 1;
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(1);
/// A refusal lasts until an operator changes something.
const REFUSED_BACKOFF: Duration = Duration::from_secs(5);
/// What a server may ask a holder to wait.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);
const KEYSPACES_TIMEOUT: Duration = Duration::from_secs(5);
const KEYSPACES_PAUSE: Duration = Duration::from_secs(1);
const REPORT_INTERVAL: Duration = Duration::from_secs(5);
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);
const LAST_REPORT_TIME: Duration = Duration::from_secs(1);
/// Half of what a server takes, which is well within the largest message.
const USES_IN_REPORT: usize = 5_000;
/// A header of the answer, which a refusal does not have.
const LET_IN: &str = "x-keyfence-let-in";
/// Messages on their way to the grantor. If so many wait, the connection takes nothing.
const MAX_UNSENT: usize = 64;

/// Leaves out one guard at a time, so that the conformance driver can be shown to notice. The
/// default leaves out none.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is set by itself, in tests")]
pub struct Guards {
    /// Counts a lease from when its grant came.
    pub count_from_arrival: bool,
    /// Answers under a grant whose changes are not applied yet.
    pub ignore_head: bool,
    /// Goes on with what is remembered of another epoch.
    pub ignore_epoch: bool,
    /// Remembers facts that a change has overtaken.
    pub keep_overtaken_fills: bool,
    /// Acknowledges a change before it is applied.
    pub acknowledge_first: bool,
    /// Applies a change of an unknown kind as if it were nothing.
    pub ignore_unknown_changes: bool,
    /// Applies a revision although one before it is missing.
    pub ignore_gaps: bool,
    /// Keeps memory and lease when another stream begins.
    pub keep_across_streams: bool,
}

/// Keeps a core in step with the server, from the first check on that finds no answer.
#[derive(Debug)]
pub(crate) struct Holder {
    inner: Arc<Inner>,
    stop: watch::Sender<bool>,
    has_started: AtomicBool,
    task: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Inner {
    core: Core,
    transport: Arc<Transport>,
    /// Connections of the holder's own, one for each server.
    channels: Vec<Channel>,
    /// The place of the server that the stream is at.
    current: AtomicUsize,
    hello: v1::Hello,
    keyspaces_wanted: Notify,
}

/// Why a stream has ended.
#[derive(Debug)]
enum Ended {
    /// The grantor does not support this version of the protocol.
    Unsupported,
    /// The stream broke, or the grantor asks to be left alone for so long.
    Broken(String, Duration),
    /// An operator must change something first. The grantor may ask for a longer time.
    Refused(String, Duration),
}

impl Ended {
    fn broken(cause: impl Into<String>) -> Self {
        Self::Broken(cause.into(), Duration::ZERO)
    }

    /// How long to wait: not all holders at once, and none sooner than its grantor asks for.
    ///
    /// `part` is 0.5 to 1.
    fn pause(&self, backoff: Duration, part: f64) -> Duration {
        let (usual, asked) = match self {
            Self::Unsupported => return Duration::MAX,
            Self::Broken(_, asked) => (backoff, asked),
            Self::Refused(_, asked) => (REFUSED_BACKOFF, asked),
        };
        usual.mul_f64(part).max(asked.mul_f64(0.5 + part))
    }
}

/// The pause after another failure.
fn longer(backoff: Duration) -> Duration {
    (2 * backoff).min(LAST_BACKOFF)
}

impl fmt::Display for Ended {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported => out.write_str(
                "the server does not support this cache's protocol version: update the client or the server",
            ),
            Self::Broken(cause, _) | Self::Refused(cause, _) => out.write_str(cause),
        }
    }
}

/// Drops a fill that was not ended, for example since its check was given up.
struct Filling<'a> {
    core: &'a Core,
    fill: Fill,
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        self.core.drop_fill(&self.fill);
    }
}

impl Holder {
    pub(crate) fn new(transport: Arc<Transport>, max_keys: usize) -> Self {
        let core = Core::new(max_keys, Guards::default(), Box::new(clock::now), Box::new(clock::wall));
        let inner = Inner {
            core,
            channels: transport.servers().apart(),
            transport,
            current: AtomicUsize::new(0),
            hello: hello(),
            keyspaces_wanted: Notify::new(),
        };
        Self {
            inner: Arc::new(inner),
            stop: watch::Sender::new(false),
            has_started: AtomicBool::new(false),
            task: Mutex::new(None),
        }
    }

    /// Answers from memory. `None`: [`Holder::fill`] may help.
    pub(crate) fn answer(&self, check: &Check<'_>) -> Option<Verdict> {
        self.inner.core.answer(check)
    }

    /// Asks the server for facts and answers from them. `None`: the server must be asked the check.
    pub(crate) async fn fill(&self, check: &Check<'_>, deadline: Instant) -> Option<Verdict> {
        self.start();
        let core = &self.inner.core;
        let filling = Filling { fill: core.begin_fill(check.api_key)?, core };
        let request = v1::FetchFactsRequest {
            api_key: check.api_key.to_owned(),
            at_least_revision: filling.fill.at_least(),
        };
        let options = CallOptions { credential: None, deadline: Some(deadline) };
        let response = self.inner.transport.call_on(self.inner.channel(), request, &options).await.ok()?;
        if !core.end_fill(&filling.fill, check.api_key, &response) {
            return None;
        }
        core.answer(check)
    }

    fn start(&self) {
        if !self.has_started.swap(true, Ordering::SeqCst) {
            let running = Arc::clone(&self.inner).run(self.stop.subscribe());
            *lock(&self.task) = Some(tokio::spawn(running));
        }
    }

    pub(crate) fn status(&self) -> CacheStatus {
        self.inner.core.status()
    }

    /// Gives up the lease, waits until the stream has ended, and reports the last uses.
    pub(crate) async fn close(&self) {
        self.inner.core.abandon();
        self.has_started.store(true, Ordering::SeqCst);
        self.stop.send_replace(true);
        let task = lock(&self.task).take();
        if let Some(task) = task {
            // It was ended with its runtime, or has panicked; there is nothing more to stop.
            let _ = task.await;
        }
        let _ = timeout(LAST_REPORT_TIME, self.inner.report(LAST_REPORT_TIME)).await;
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.inner.core.abandon();
        self.stop.send_replace(true);
    }
}

impl Inner {
    fn channel(&self) -> &Channel {
        &self.channels[self.current.load(Ordering::Relaxed) % self.channels.len()]
    }

    async fn run(self: Arc<Self>, stop: watch::Receiver<bool>) {
        let stopped = |mut stop: watch::Receiver<bool>| async move {
            // An error says that the holder is gone.
            let _ = stop.wait_for(|is_stopped| *is_stopped).await;
        };
        tokio::select! {
            () = self.keep_following() => {}
            () = self.keep_keyspaces() => {}
            () = self.keep_reporting() => {}
            () = stopped(stop) => {}
        }
        // The end may have come while a lease was being granted.
        self.core.abandon();
    }

    async fn keep_following(&self) {
        let mut backoff = FIRST_BACKOFF;
        loop {
            let mut granted = false;
            let ended = self.follow(&mut granted).await;
            tracing::info!(cause = %ended, "cache_out_of_step");
            if granted {
                backoff = FIRST_BACKOFF;
            }
            if matches!(ended, Ended::Unsupported) {
                self.core.abandon();
                // The program goes on without memory.
                return std::future::pending().await;
            }
            sleep(ended.pause(backoff, random_between(0.5, 1.0))).await;
            backoff = longer(backoff);
            self.current.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Serves one stream, until it ends. While no grantor can be reached, the lease that there is
    /// goes on counting.
    async fn follow(&self, granted: &mut bool) -> Ended {
        let (sender, receiver) = mpsc::channel(MAX_UNSENT);
        let mut stream = match timeout(OPEN_TIMEOUT, self.open(receiver)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(ended)) => return ended,
            Err(_) => {
                return Ended::broken(format!(
                    "the server cannot be reached, or a proxy in between removes the header {LET_IN}"
                ));
            }
        };
        self.core.begin();
        let send = |message| {
            let sent = sender.try_send(v1::SyncRequest { message: Some(message) });
            sent.map_err(|_| Ended::broken("the connection takes nothing"))
        };
        if let Err(ended) = send(sync_request::Message::Hello(self.hello.clone())) {
            return ended;
        }
        let mut renewed: Option<Instant> = None;
        let mut heard = Instant::now();
        loop {
            let pace = self.core.pace();
            let renew_at = renewed.map_or_else(Instant::now, |at| at + pace.interval);
            tokio::select! {
                message = stream.message() => {
                    let message = match message {
                        Ok(Some(message)) => message,
                        Ok(None) => return Ended::broken("the server has ended the stream"),
                        Err(status) => return ended_by(&status),
                    };
                    match self.core.take(&message) {
                        Ok(true) => self.keyspaces_wanted.notify_one(),
                        Ok(false) => {}
                        Err(missing) => return Ended::broken(missing.to_string()),
                    }
                    match message.message {
                        Some(sync_response::Message::Lease(lease)) => {
                            heard = Instant::now();
                            *granted |= lease.ttl.is_some_and(|ttl| ttl.seconds > 0 || ttl.nanos > 0);
                        }
                        Some(sync_response::Message::End(_)) => {
                            if let Err(ended) = send(sync_request::Message::GivenUp(v1::GivenUp {})) {
                                return ended;
                            }
                            drop(sender);
                            return until_ended(&mut stream, pace.patience).await;
                        }
                        _ => {}
                    }
                    if let Some(renew) = self.core.acknowledgement()
                        && let Err(ended) = send(sync_request::Message::Renew(renew))
                    {
                        return ended;
                    }
                }
                () = sleep_until(renew_at) => {
                    renewed = Some(Instant::now());
                    if let Err(ended) = send(sync_request::Message::Renew(self.core.renewal())) {
                        return ended;
                    }
                }
                () = sleep_until(heard + pace.patience) => {
                    return Ended::broken("the server does not answer");
                }
            }
        }
    }

    /// Opens a stream and waits until the server lets the holder in. One that can be reached may
    /// still refuse it, for example while it stops.
    async fn open(
        &self,
        messages: mpsc::Receiver<v1::SyncRequest>,
    ) -> Result<Streaming<v1::SyncResponse>, Ended> {
        let token = self.transport.credential(&CallOptions::default());
        let token = token.map_err(|error| Ended::broken(error.to_string()))?;
        let mut request = Request::new(ReceiverStream::new(messages));
        authorize(&mut request, token.as_ref()).map_err(|status| ended_by(&status))?;
        let mut grpc = Grpc::new(self.channel().clone());
        grpc.ready().await.map_err(|error| ended_by(&Status::from_error(error.into())))?;
        let codec = ProstCodec::<v1::SyncRequest, v1::SyncResponse>::default();
        let opened = grpc.streaming(request, PathAndQuery::from_static(SYNC), codec).await;
        let response: Response<Streaming<v1::SyncResponse>> = opened.map_err(|status| ended_by(&status))?;
        let is_let_in = response.metadata().contains_key(LET_IN);
        let mut stream = response.into_inner();
        if is_let_in {
            return Ok(stream);
        }
        match stream.message().await {
            Err(status) => Err(ended_by(&status)),
            Ok(_) => Err(Ended::broken(format!("no header {LET_IN}"))),
        }
    }

    /// Learns which scopes are registered, again whenever a keyspace has changed. Until it is known,
    /// denials for missing scopes come from the server.
    async fn keep_keyspaces(&self) {
        loop {
            self.keyspaces_wanted.notified().await;
            let filling = Filling { fill: self.core.memory.begin_fill(), core: &self.core };
            let options = within(KEYSPACES_TIMEOUT);
            let answer = self.fetch_keyspaces(filling.fill.at_least(), &options).await;
            let is_known =
                answer.is_ok_and(|response| self.core.memory.end_keyspaces_fill(&filling.fill, &response));
            if !is_known {
                sleep(KEYSPACES_PAUSE).await;
                self.keyspaces_wanted.notify_one();
            }
        }
    }

    /// Fetches all pages, and makes one answer of them that is as old as the oldest. If the store has
    /// failed over between two of them, the epoch of the answer is none.
    async fn fetch_keyspaces(
        &self,
        at_least_revision: i64,
        options: &CallOptions,
    ) -> Result<v1::FetchKeyspacesResponse, crate::Error> {
        let mut request = v1::FetchKeyspacesRequest { at_least_revision, ..Default::default() };
        let mut whole = self.transport.call_on(self.channel(), request.clone(), options).await?;
        while !whole.next_page_token.is_empty() {
            request.page_token = std::mem::take(&mut whole.next_page_token);
            let page = self.transport.call_on(self.channel(), request.clone(), options).await?;
            whole.keyspaces.extend(page.keyspaces);
            whole.next_page_token = page.next_page_token;
            whole.revision = whole.revision.min(page.revision);
            if page.epoch != whole.epoch {
                whole.epoch.clear();
            }
        }
        Ok(whole)
    }

    async fn keep_reporting(&self) {
        loop {
            sleep(REPORT_INTERVAL).await;
            self.report(REPORT_TIMEOUT).await;
        }
    }

    /// Reports how keys were used. What could not be told is kept. If a report has arrived all the
    /// same it counts twice: a number that is a little too high misleads less than a missing one.
    async fn report(&self, time: Duration) {
        let taken = self.core.memory.take_uses();
        let mut returning = Returning { inner: self, left: &taken };
        while !returning.left.is_empty() {
            let (next, rest) = returning.left.split_at(returning.left.len().min(USES_IN_REPORT));
            let sent = self.transport.call_on(self.channel(), report_of(next), &within(time)).await;
            if let Err(error) = sent
                // What the server takes for faulty once, it does again.
                && error.code() != Code::InvalidArgument
            {
                tracing::info!(cause = ?error.code(), "uses_not_reported");
                return;
            }
            returning.left = rest;
        }
    }
}

/// Puts back what was not reported, also when the report is given up.
struct Returning<'a> {
    inner: &'a Inner,
    left: &'a [uses::Use],
}

impl Drop for Returning<'_> {
    fn drop(&mut self) {
        self.inner.core.memory.put_back_uses(self.left);
    }
}

/// Waits until the grantor has ended the stream, after the last message on it.
async fn until_ended(stream: &mut Streaming<v1::SyncResponse>, patience: Duration) -> Ended {
    let draining = async { while let Ok(Some(_)) = stream.message().await {} };
    let _ = timeout(patience, draining).await;
    Ended::broken("the server has taken the lease back")
}

fn within(time: Duration) -> CallOptions {
    CallOptions { credential: None, deadline: Some(Instant::now() + time) }
}

fn ended_by(status: &Status) -> Ended {
    let failed = CallError::of_status(status, &[]);
    if failed.reason == "PROTOCOL_VERSION_UNSUPPORTED" {
        return Ended::Unsupported;
    }
    let cause = format!("the server does not take the stream: {:?} {}", failed.code, failed.reason);
    let is_refusal =
        matches!(failed.code, Code::Unauthenticated | Code::PermissionDenied | Code::FailedPrecondition);
    let asked = retry_after(&failed);
    if is_refusal { Ended::Refused(cause, asked) } else { Ended::Broken(cause, asked) }
}

/// How long a server that has ended or refused a stream asks to be left alone.
fn retry_after(failed: &CallError) -> Duration {
    let told = failed.metadata.get("retry_after_seconds").and_then(|seconds| seconds.parse().ok());
    let asked = told.and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok());
    asked.unwrap_or_default().min(LONGEST_RETRY_AFTER)
}

/// Names the holder, by an id that it keeps on all its streams.
fn hello() -> v1::Hello {
    v1::Hello {
        holder_id: format!("sdk_{}", random_text()),
        kind: v1::HolderKind::Sdk.into(),
        display_name: format!("rust client, process {}", std::process::id()),
        protocol_version: PROTOCOL_VERSION,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic::Code;

    use super::{CallError, Ended, FIRST_BACKOFF, longer, retry_after};

    #[test]
    fn pauses_are_longer_after_each_failure_and_a_second_at_most() {
        let gone = Ended::broken("gone");
        let mut backoff = FIRST_BACKOFF;
        for millis in [100, 200, 400, 800, 1_000, 1_000] {
            assert_eq!(gone.pause(backoff, 1.0), Duration::from_millis(millis));
            backoff = longer(backoff);
        }
    }

    #[test]
    fn a_server_that_asks_to_be_left_alone_is() {
        for (told, seconds) in [("7", 7), ("86400", 60), ("-1", 0), ("soon", 0), ("NaN", 0)] {
            let mut failed = CallError::new(Code::ResourceExhausted, "later");
            failed.metadata.insert("retry_after_seconds".to_owned(), told.to_owned());
            assert_eq!(retry_after(&failed), Duration::from_secs(seconds), "{told}");
        }
        assert!(retry_after(&CallError::new(Code::Unavailable, "gone")).is_zero());
    }

    #[test]
    fn a_short_wait_that_a_server_asks_for_is_not_taken_for_a_refusal() {
        let asked = Duration::from_millis(400);
        let busy = Ended::Broken("busy".to_owned(), asked);
        for part in [0.5, 1.0] {
            let pause = busy.pause(FIRST_BACKOFF, part);
            assert!((asked..=asked.mul_f64(1.5)).contains(&pause), "{pause:?}");
            let refused = Ended::Refused("no credential".to_owned(), asked).pause(FIRST_BACKOFF, part);
            assert_eq!(refused, Duration::from_secs(5).mul_f64(part));
        }
        assert_eq!(Ended::broken("cut").pause(FIRST_BACKOFF, 0.5), FIRST_BACKOFF.mul_f64(0.5));
    }
}
