//! Why there was no answer.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;

use prost::Message as _;
use tonic::{Code, Status};

use crate::secret::REDACTED;

/// What is shorter is no key, and is not cut out of messages.
const SHORTEST_SECRET: usize = 8;

/// Why there was no answer. It is no denial: fail closed, and tell it from one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The client is closed.
    Closed,
    /// The client was set up or used in a way that cannot work; nothing was sent.
    Invalid(String),
    /// The call failed, at the server or on the way.
    Call(Box<CallError>),
}

/// A call that failed. It shows neither the client's token nor the key that was asked about.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CallError {
    /// The gRPC status code.
    pub code: Code,
    /// The name of an error of docs/errors.md, for example `UNKNOWN_SCOPE`. Empty if the error is
    /// not one of Keyfence's.
    pub reason: String,
    /// What was wrong and what to do, for a developer.
    pub message: String,
    /// What the reason comes with, for example `nearest` for `UNKNOWN_SCOPE`.
    pub metadata: BTreeMap<String, String>,
    /// The faults in fields of the request. Checks that were sent in a batch have none; there the
    /// message names the fields.
    pub violations: Vec<Violation>,
    /// The id under which the server's log has the call. Empty: unknown.
    pub request_id: String,
}

/// A fault in one field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The field's path in the request.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

impl Error {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    pub(crate) fn call(code: Code, message: &str) -> Self {
        Self::Call(Box::new(CallError::new(code, message)))
    }

    /// The gRPC status code: that of the call, `Cancelled` for a closed client, and
    /// `InvalidArgument` for what was not sent.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Closed => Code::Cancelled,
            Self::Invalid(_) => Code::InvalidArgument,
            Self::Call(failed) => failed.code,
        }
    }

    /// The name of an error of docs/errors.md; empty if it is none of them.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.failed().map_or("", |failed| &failed.reason)
    }

    /// The call that failed, if the error is of one.
    #[must_use]
    pub fn failed(&self) -> Option<&CallError> {
        match self {
            Self::Call(failed) => Some(failed),
            _ => None,
        }
    }

    /// Whether the same call may succeed a moment later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        let passing = [Code::Unavailable, Code::DeadlineExceeded, Code::ResourceExhausted, Code::Cancelled];
        self.failed().is_some_and(|failed| passing.contains(&failed.code))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => out.write_str("keyfence: the client is closed"),
            Self::Invalid(message) => write!(out, "keyfence: {message}"),
            Self::Call(failed) => failed.fmt(out),
        }
    }
}

impl StdError for Error {}

impl CallError {
    pub(crate) fn new(code: Code, message: &str) -> Self {
        Self {
            code,
            reason: String::new(),
            message: message.to_owned(),
            metadata: BTreeMap::new(),
            violations: Vec::new(),
            request_id: String::new(),
        }
    }

    /// Reads a status and cuts the secrets out of all that it shows.
    pub(crate) fn of_status(status: &Status, secrets: &[&str]) -> Self {
        let mut made = Self::new(code_of(status), status.message());
        if let Ok(sent) = google::Status::decode(status.details()) {
            for detail in &sent.details {
                made.read_detail(detail);
            }
        }
        let header = status.metadata().get("x-request-id").and_then(|value| value.to_str().ok());
        if let Some(id) = header.or(made.metadata.get("request_id").map(String::as_str)) {
            made.request_id = String::from(id);
        }
        made.without(secrets)
    }

    // A broken detail must not hide the status.
    fn read_detail(&mut self, detail: &prost_types::Any) {
        match detail.type_url.rsplit('/').next() {
            Some("google.rpc.ErrorInfo") => {
                if let Ok(info) = google::ErrorInfo::decode(detail.value.as_slice())
                    && info.domain == "keyfence"
                {
                    self.reason = info.reason;
                    self.metadata = info.metadata;
                }
            }
            Some("google.rpc.BadRequest") => {
                if let Ok(request) = google::BadRequest::decode(detail.value.as_slice()) {
                    self.violations.extend(
                        request
                            .field_violations
                            .into_iter()
                            .map(|one| Violation { field: one.field, description: one.description }),
                    );
                }
            }
            _ => {}
        }
    }

    pub(crate) fn without(mut self, secrets: &[&str]) -> Self {
        let clean = |text: &str| {
            let long = secrets.iter().filter(|secret| secret.len() >= SHORTEST_SECRET);
            long.fold(text.to_owned(), |text, secret| text.replace(secret, REDACTED))
        };
        self.reason = clean(&self.reason);
        self.message =
            if self.message.is_empty() { "the call failed".to_owned() } else { clean(&self.message) };
        self.request_id = clean(&self.request_id);
        self.metadata = self.metadata.iter().map(|(name, value)| (clean(name), clean(value))).collect();
        for one in &mut self.violations {
            *one = Violation { field: clean(&one.field), description: clean(&one.description) };
        }
        self
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "keyfence: {:?}", self.code)?;
        if !self.reason.is_empty() {
            write!(out, " ({})", self.reason)?;
        }
        write!(out, ": {}", self.message)?;
        for one in &self.violations {
            write!(out, "; {}: {}", one.field, one.description)?;
        }
        if !self.request_id.is_empty() {
            write!(out, " [request {}]", self.request_id)?;
        }
        Ok(())
    }
}

impl StdError for CallError {}

impl From<CallError> for Error {
    fn from(failed: CallError) -> Self {
        Self::Call(Box::new(failed))
    }
}

/// The code of a call that failed. What failed on the way has a cause on this side; tonic gives
/// it various codes, of which `Cancelled` is that of a connection that ends at its age.
fn code_of(status: &Status) -> Code {
    let failed_on_the_way = status.source().is_some();
    match status.code() {
        // The server gave the call up without looking at it: it is flooded, or was stopped.
        Code::Cancelled => Code::Unavailable,
        Code::Unknown | Code::Internal if failed_on_the_way => Code::Unavailable,
        code => code,
    }
}

/// The parts of `google.rpc` that errors are told in.
pub(crate) mod google {
    use std::collections::BTreeMap;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Status {
        #[prost(int32, tag = "1")]
        pub(crate) code: i32,
        #[prost(string, tag = "2")]
        pub(crate) message: String,
        #[prost(message, repeated, tag = "3")]
        pub(crate) details: Vec<prost_types::Any>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct ErrorInfo {
        #[prost(string, tag = "1")]
        pub(crate) reason: String,
        #[prost(string, tag = "2")]
        pub(crate) domain: String,
        #[prost(btree_map = "string, string", tag = "3")]
        pub(crate) metadata: BTreeMap<String, String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct BadRequest {
        #[prost(message, repeated, tag = "1")]
        pub(crate) field_violations: Vec<FieldViolation>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct FieldViolation {
        #[prost(string, tag = "1")]
        pub(crate) field: String,
        #[prost(string, tag = "2")]
        pub(crate) description: String,
    }
}
