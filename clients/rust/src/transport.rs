//! The connections, and how a call is made: credential, deadline, repetition, typed error.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::Error;
use crate::calls::Call;
use crate::errors::CallError;
use crate::secret::{Secret, random_between, random_text};
use crate::target::Target;
use crate::token::{self, Token};

const USER_AGENT: &str = concat!("keyfence-rust/", env!("CARGO_PKG_VERSION"));
const MAX_RESPONSE_BYTES: usize = 64 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// One ping in five minutes is what a gRPC server tolerates by default.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(300);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Thirty years, which stand for a timeout that is to be none.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// Four attempts, about 50, 150 and 450 ms apart, within the deadline.
const MAX_ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const PAUSE_FACTOR: u32 = 3;
/// For how long a server that does not answer is left out, where there are others.
const OUT_OF_TURN: Duration = Duration::from_secs(1);

/// Many failures in a row end repetition until calls succeed again, so that clients do not hold down
/// a server that is trying to get up: 100 tokens, of which a failure takes 1 and a success gives
/// back 0.1 (gRPC proposal A6). Counted in tenths.
const MAX_TENTHS: i64 = 1000;
const TENTHS_OF_A_FAILURE: i64 = 10;

/// Who makes a call, and until when it has time.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallOptions {
    /// In place of the client's token.
    pub(crate) credential: Option<Secret>,
    /// In place of the client's timeout.
    pub(crate) deadline: Option<Instant>,
}

/// A connection to each server.
#[derive(Debug)]
pub(crate) struct Servers {
    all: Vec<Server>,
    next: AtomicUsize,
    began: Instant,
}

struct Server {
    endpoint: Endpoint,
    channel: Channel,
    /// In milliseconds since `Servers::began`.
    out_until: AtomicU64,
}

impl fmt::Debug for Server {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.uri().fmt(out)
    }
}

impl Servers {
    #[cfg(feature = "tls")]
    pub(crate) fn new(
        targets: &[Target],
        tls: Option<&tonic::transport::ClientTlsConfig>,
    ) -> Result<Self, Error> {
        let endpoints = targets.iter().map(|target| {
            let endpoint = endpoint(target, tls.is_some())?;
            match (target, tls) {
                (Target::Network { .. }, Some(settings)) => {
                    endpoint.tls_config(settings.clone()).map_err(|error| unusable(target, &error))
                }
                _ => Ok(endpoint),
            }
        });
        Ok(Self::connecting(endpoints.collect::<Result<_, _>>()?))
    }

    #[cfg(not(feature = "tls"))]
    pub(crate) fn new(targets: &[Target]) -> Result<Self, Error> {
        let endpoints = targets.iter().map(|target| endpoint(target, false));
        Ok(Self::connecting(endpoints.collect::<Result<_, _>>()?))
    }

    fn connecting(endpoints: Vec<Endpoint>) -> Self {
        let servers = endpoints.into_iter().map(|endpoint| Server {
            channel: endpoint.connect_lazy(),
            out_until: AtomicU64::new(0),
            endpoint,
        });
        Self { all: servers.collect(), next: AtomicUsize::new(0), began: Instant::now() }
    }

    /// The same servers, on connections of their own.
    #[cfg(feature = "cache")]
    pub(crate) fn apart(&self) -> Vec<Channel> {
        self.all.iter().map(|server| server.endpoint.connect_lazy()).collect()
    }

    /// The server whose turn it is among those that answer; if none does, among all.
    fn next(&self) -> &Server {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let now = self.milliseconds(Duration::ZERO);
        let in_turn = || (0..self.all.len()).map(|step| &self.all[(turn + step) % self.all.len()]);
        let answers = |server: &&Server| server.out_until.load(Ordering::Relaxed) <= now;
        in_turn().find(answers).unwrap_or_else(|| &self.all[turn % self.all.len()])
    }

    fn leave_out(&self, server: &Server) {
        server.out_until.store(self.milliseconds(OUT_OF_TURN), Ordering::Relaxed);
    }

    fn milliseconds(&self, later: Duration) -> u64 {
        u64::try_from((self.began.elapsed() + later).as_millis()).unwrap_or(u64::MAX)
    }
}

fn endpoint(target: &Target, is_tls: bool) -> Result<Endpoint, Error> {
    let address = match target {
        Target::Unix(path) => format!("unix:{path}"),
        Target::Network { authority, .. } if is_tls => format!("https://{authority}"),
        Target::Network { authority, .. } => format!("http://{authority}"),
    };
    let endpoint = Endpoint::from_shared(address).map_err(|error| unusable(target, &error))?;
    let endpoint = endpoint.user_agent(USER_AGENT).map_err(|error| unusable(target, &error))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT))
}

fn unusable(target: &Target, error: &tonic::transport::Error) -> Error {
    Error::invalid(format!("target \"{target}\" cannot be used: {error}"))
}

/// Makes calls.
#[derive(Debug)]
pub(crate) struct Transport {
    servers: Servers,
    token: Token,
    check_timeout: Duration,
    timeout: Duration,
    tenths: AtomicI64,
}

impl Transport {
    pub(crate) fn new(servers: Servers, token: Token, check_timeout: Duration, timeout: Duration) -> Self {
        Self { servers, token, check_timeout, timeout, tenths: AtomicI64::new(MAX_TENTHS) }
    }

    #[cfg(feature = "cache")]
    pub(crate) fn servers(&self) -> &Servers {
        &self.servers
    }

    pub(crate) fn check_deadline(&self, options: &CallOptions) -> Instant {
        options.deadline.unwrap_or_else(|| deadline_after(self.check_timeout))
    }

    /// Makes a call at the servers in turn.
    pub(crate) async fn call<C: Call>(
        &self,
        request: C,
        options: &CallOptions,
    ) -> Result<C::Response, Error> {
        self.repeat(request, options, None).await
    }

    /// Makes a call on one connection.
    #[cfg(feature = "cache")]
    pub(crate) async fn call_on<C: Call>(
        &self,
        channel: &Channel,
        request: C,
        options: &CallOptions,
    ) -> Result<C::Response, Error> {
        self.repeat(request, options, Some(channel)).await
    }

    async fn repeat<C: Call>(
        &self,
        mut request: C,
        options: &CallOptions,
        channel: Option<&Channel>,
    ) -> Result<C::Response, Error> {
        if let Some(id) = request.request_id()
            && id.is_empty()
        {
            *id = random_text();
        }
        let timeout = if C::RPC.is_check { self.check_timeout } else { self.timeout };
        let deadline = options.deadline.unwrap_or_else(|| deadline_after(timeout));
        let token = self.credential(options)?;
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let server = self.servers.next();
            let one = send(channel.unwrap_or(&server.channel), request.clone(), token.as_ref(), deadline);
            let status = match timeout_at(deadline, one).await {
                Ok(Ok(response)) => {
                    self.succeeded();
                    return Ok(response.into_inner());
                }
                Ok(Err(status)) => status,
                Err(_) => return Err(out_of_time()),
            };
            let mut secrets: Vec<&str> = token.iter().map(Secret::expose).collect();
            request.carried_secrets(&mut secrets);
            let failed = CallError::of_status(&status, &secrets);
            if failed.code != Code::Unavailable {
                return Err(failed.into());
            }
            if Instant::now() >= deadline {
                return Err(out_of_time());
            }
            if channel.is_none() {
                self.servers.leave_out(server);
            }
            let may_repeat = C::RPC.is_repeatable && attempt < MAX_ATTEMPTS;
            let wait = pause.mul_f64(random_between(0.8, 1.2));
            if !self.failed() || !may_repeat || Instant::now() + wait >= deadline {
                return Err(failed.into());
            }
            sleep(wait).await;
            pause *= PAUSE_FACTOR;
        }
        unreachable!("the attempts are counted")
    }

    /// The credential of a call; `None`: it carries none.
    pub(crate) fn credential(&self, options: &CallOptions) -> Result<Option<Secret>, Error> {
        match &options.credential {
            Some(credential) => token::check(credential).map(|()| Some(credential.clone())),
            None => self.token.current(),
        }
    }

    fn succeeded(&self) {
        let give_back = |tenths: i64| (tenths < MAX_TENTHS).then_some(tenths + 1);
        // It is full, or another thread was quicker to fill it.
        let _ = self.tenths.fetch_update(Ordering::Relaxed, Ordering::Relaxed, give_back);
    }

    /// Notes a failure. Says whether calls may be repeated.
    fn failed(&self) -> bool {
        let take = |tenths: i64| Some((tenths - TENTHS_OF_A_FAILURE).max(0));
        let before = self.tenths.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        before.unwrap_or_default() - TENTHS_OF_A_FAILURE > MAX_TENTHS / 2
    }
}

/// The moment after this time. What no clock can count to is some decades.
pub(crate) fn deadline_after(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout).unwrap_or_else(|| now + LONGEST_TIMEOUT).min(now + LONGEST_TIMEOUT)
}

pub(crate) fn out_of_time() -> Error {
    Error::call(Code::DeadlineExceeded, "the call was not answered in time")
}

async fn send<C: Call>(
    channel: &Channel,
    message: C,
    token: Option<&Secret>,
    deadline: Instant,
) -> Result<Response<C::Response>, Status> {
    let mut request = Request::new(message);
    request.set_timeout(deadline.saturating_duration_since(Instant::now()));
    authorize(&mut request, token)?;
    let mut grpc = Grpc::new(channel.clone()).max_decoding_message_size(MAX_RESPONSE_BYTES);
    grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
    grpc.unary(request, PathAndQuery::from_static(C::RPC.path), ProstCodec::<C, C::Response>::default()).await
}

/// Adds the credential to a request.
pub(crate) fn authorize<T>(request: &mut Request<T>, token: Option<&Secret>) -> Result<(), Status> {
    if let Some(token) = token {
        let mut value = MetadataValue::try_from(format!("Bearer {}", token.expose()))
            .map_err(|_| Status::unauthenticated("the token cannot be sent"))?;
        value.set_sensitive(true);
        request.metadata_mut().insert("authorization", value);
    }
    Ok(())
}
