//! How a keyspace speaks HTTP, compiled: docs/http.md of the repository has the language.

use std::collections::HashMap;
use std::fmt;
use std::time::SystemTime;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, Response, StatusCode};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;

use crate::v1::{HttpAnswer, HttpAnswers, HttpCredentials, HttpRateLimitHeaders};
use crate::{RateLimitStatus, Reason};

const UNAUTHENTICATED: &str = "unauthenticated";
const SCOPE_MISSING: &str = "scope_missing";
const RATE_LIMITED: &str = "rate_limited";
const PLAIN_TEXT: &str = "text/plain";
const MAX_DEPTH: usize = 8;
/// The number of reasons is that of an enum whose values have no gaps.
const REASONS: i32 = Reason::RateLimited as i32;

/// The answers of one keyspace.
pub(super) struct Answers {
    keyspace: String,
    content_type: HeaderValue,
    scheme: &'static str,
    pub(super) credentials: HttpCredentials,
    limits: HttpRateLimitHeaders,
    by_reason: HashMap<Reason, Answer>,
}

struct Answer {
    status: StatusCode,
    code: String,
    message: Template,
    challenge: Template,
    body: Body,
}

/// A refusal, as far as a caller may know of it.
pub(super) struct Denial<'a> {
    pub(super) reason: Reason,
    pub(super) missing_scopes: &'a [String],
    pub(super) required_scopes: &'a [String],
    pub(super) rate_limit: Option<&'a RateLimitStatus>,
    pub(super) request_id: &'a str,
}

impl Answers {
    pub(super) fn compile(declared: &HttpAnswers, keyspace: &str) -> Result<Self, String> {
        let content_type = first_of(&declared.content_type, "application/json");
        let credentials = declared.credentials.clone().unwrap_or_else(|| HttpCredentials {
            bearer: true,
            headers: vec!["X-API-Key".to_owned()],
            cookie: String::new(),
        });
        let limits = declared.rate_limit_headers.clone().unwrap_or_else(|| HttpRateLimitHeaders {
            limit: "X-RateLimit-Limit".to_owned(),
            remaining: "X-RateLimit-Remaining".to_owned(),
            reset: "X-RateLimit-Reset".to_owned(),
        });
        let body = first_of(&declared.body, r#"{"error": "{code}", "error_description": "{message}"}"#);
        let mut by_reason = HashMap::new();
        for reason in (0..=REASONS).filter_map(|number| Reason::try_from(number).ok()) {
            let parts = resolve(&declared.answers, reason);
            let status =
                u16::try_from(parts.status).ok().and_then(|status| StatusCode::from_u16(status).ok());
            let answer = Answer {
                status: status.ok_or_else(|| format!("{} is no status", parts.status))?,
                message: Template::parse(&parts.message)?,
                challenge: Template::parse(&parts.www_authenticate)?,
                body: Body::parse(first_of(&parts.body, body), content_type)?,
                code: parts.code,
            };
            by_reason.insert(reason, answer);
        }
        Ok(Self {
            keyspace: keyspace.to_owned(),
            content_type: HeaderValue::from_str(content_type).map_err(|error| error.to_string())?,
            scheme: if credentials.bearer { "Bearer" } else { "ApiKey" },
            credentials,
            limits,
            by_reason,
        })
    }

    pub(super) fn write(&self, denial: &Denial<'_>) -> Response<String> {
        // A reason of a later version: the key did not pass.
        let unknown = Reason::KeyUnknown;
        let parts = self.by_reason.get(&denial.reason).unwrap_or_else(|| &self.by_reason[&unknown]);
        let now = prost_types::Timestamp::from(SystemTime::now());
        let mut values: Values<'_> = HashMap::from([
            ("keyspace", self.keyspace.as_str().into()),
            ("scheme", self.scheme.into()),
            ("code", parts.code.as_str().into()),
            ("status", parts.status.as_u16().into()),
            ("missing_scopes", denial.missing_scopes.into()),
            ("required_scopes", denial.required_scopes.into()),
            ("request_id", denial.request_id.into()),
            ("time", prost_types::Timestamp { nanos: 0, ..now }.to_string().into()),
        ]);
        let mut response = Response::new(String::new());
        let is_known = matches!(denial.reason, Reason::ScopeMissing | Reason::RateLimited);
        // Of a 401 the limit would tell that there is such a key.
        if let Some(limit) = denial.rate_limit.filter(|_| is_known) {
            self.place_limit(&mut values, response.headers_mut(), limit);
        }
        values.insert("message", parts.message.render(&values, ", ").into());
        *response.status_mut() = parts.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, self.content_type.clone());
        // The answer is for this credential and this moment.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(challenge) = HeaderValue::from_str(&parts.challenge.render(&values, " "))
            && !challenge.is_empty()
        {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        *response.body_mut() = parts.body.render(&values);
        response
    }

    fn place_limit(&self, values: &mut Values<'_>, headers: &mut HeaderMap, limit: &RateLimitStatus) {
        self.write_limit(headers, limit);
        values.insert("limit", limit.limit.into());
        values.insert("remaining", limit.remaining.into());
        values.insert("reset", reset(limit).into());
        if let Some(retry_after) = &limit.retry_after {
            values.insert("retry_after", retry_after.seconds.into());
            headers.insert(RETRY_AFTER, retry_after.seconds.into());
        }
    }

    /// Sets the headers that say where a rate limit stands.
    pub(super) fn write_limit(&self, headers: &mut HeaderMap, limit: &RateLimitStatus) {
        for (name, value) in [
            (&self.limits.limit, limit.limit),
            (&self.limits.remaining, limit.remaining),
            (&self.limits.reset, reset(limit)),
        ] {
            if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
                headers.insert(name, value.into());
            }
        }
    }
}

fn reset(limit: &RateLimitStatus) -> i64 {
    limit.reset_time.as_ref().map_or(0, |time| time.seconds)
}

fn first_of<'a>(declared: &'a str, default: &'a str) -> &'a str {
    if declared.is_empty() { default } else { declared }
}

/// The answer for a reason: its own words, then those of the cause behind it, then ours.
fn resolve(declared: &[HttpAnswer], reason: Reason) -> HttpAnswer {
    let own = reason.as_str_name().trim_start_matches("REASON_").to_ascii_lowercase();
    let general = if own == SCOPE_MISSING || own == RATE_LIMITED { own.as_str() } else { UNAUTHENTICATED };
    let mut resolved = by_default(general);
    for cause in [general, own.as_str()] {
        for one in declared.iter().filter(|one| one.cause == cause) {
            if one.status != 0 {
                resolved.status = one.status;
            }
            for (into, from) in [
                (&mut resolved.code, &one.code),
                (&mut resolved.message, &one.message),
                (&mut resolved.body, &one.body),
                (&mut resolved.www_authenticate, &one.www_authenticate),
            ] {
                if !from.is_empty() {
                    into.clone_from(from);
                }
            }
        }
    }
    resolved
}

/// The words are those of RFC 6750, section 3.1. The challenge of a 401 names no error: it would tell
/// a missing credential from a wrong one.
fn by_default(cause: &str) -> HttpAnswer {
    let (status, code, message, challenge) = match cause {
        SCOPE_MISSING => (
            403,
            "insufficient_scope",
            "The credential does not allow this",
            r#"{scheme} realm="{keyspace}", error="insufficient_scope""#,
        ),
        RATE_LIMITED => (429, "rate_limited", "Too many requests", ""),
        _ => {
            (401, "invalid_token", "The credential is missing or not valid", r#"{scheme} realm="{keyspace}""#)
        }
    };
    HttpAnswer {
        status,
        code: code.to_owned(),
        message: message.to_owned(),
        www_authenticate: challenge.to_owned(),
        ..HttpAnswer::default()
    }
}

/// What placeholders stand for. What is not there stands for nothing.
type Values<'a> = HashMap<&'static str, Value<'a>>;

enum Value<'a> {
    Text(std::borrow::Cow<'a, str>),
    Number(i64),
    List(&'a [String]),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<u16> for Value<'_> {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl<'a> From<&'a [String]> for Value<'a> {
    fn from(list: &'a [String]) -> Self {
        Self::List(list)
    }
}

/// A text with placeholders.
struct Template(Vec<Part>);

enum Part {
    Text(String),
    Name(String),
}

impl Template {
    fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let found = &rest[at..];
            if let Some(after) = found.strip_prefix("{{").or_else(|| found.strip_prefix("}}")) {
                literal.push_str(&found[..1]);
                rest = after;
                continue;
            }
            let inside = found.strip_prefix('{').and_then(|inside| inside.split_once('}'));
            let is_name = |name: &str| {
                !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            };
            match inside {
                Some((name, after)) if is_name(name) => {
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                    parts.push(Part::Name(name.to_owned()));
                    rest = after;
                }
                _ => {
                    let place = text.len() - rest.len() + at + 1;
                    return Err(format!("the {:?} at byte {place} belongs to no placeholder", &found[..1]));
                }
            }
        }
        literal.push_str(rest);
        parts.push(Part::Text(literal));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Self(parts))
    }

    fn render(&self, values: &Values<'_>, separator: &str) -> String {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Name(name) => match values.get(name.as_str()) {
                    None => {}
                    Some(Value::Text(text)) => out.push_str(text),
                    Some(Value::Number(number)) => out.push_str(&number.to_string()),
                    Some(Value::List(list)) => out.push_str(&list.join(separator)),
                },
            }
        }
        out
    }

    /// The template as a value of JSON: of one that is a placeholder and nothing else, the
    /// placeholder's own.
    fn json(&self, values: &Values<'_>) -> Json {
        match self.0.as_slice() {
            [Part::Name(name)] => match values.get(name.as_str()) {
                None => Json::Null,
                Some(Value::Text(text)) => Json::from(text.as_ref()),
                Some(Value::Number(number)) => Json::from(*number),
                Some(Value::List(list)) => Json::from(list.to_vec()),
            },
            _ => Json::from(self.render(values, ", ")),
        }
    }
}

enum Body {
    Plain(Template),
    Json(Node),
}

impl Body {
    fn parse(text: &str, content_type: &str) -> Result<Self, String> {
        if content_type == PLAIN_TEXT {
            return Template::parse(text).map(Self::Plain);
        }
        let node: Node = serde_json::from_str(text)
            .map_err(|error| format!("the body is not JSON that can be used: {error}"))?;
        if node.depth() > MAX_DEPTH {
            return Err("the body is nested too deep".to_owned());
        }
        Ok(Self::Json(node))
    }

    fn render(&self, values: &Values<'_>) -> String {
        match self {
            Self::Plain(template) => template.render(values, ", "),
            Self::Json(node) => {
                let mut out = String::new();
                node.write(&mut out, values);
                out
            }
        }
    }
}

/// A value of JSON, whose members keep their order. Placeholders stand in strings, and what is put
/// into them is written as a value, so that none can break out of its place.
enum Node {
    Template(Template),
    Constant(Json),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl Node {
    fn depth(&self) -> usize {
        match self {
            Self::Template(_) | Self::Constant(_) => 0,
            Self::List(inner) => 1 + inner.iter().map(Self::depth).max().unwrap_or(0),
            Self::Object(inner) => 1 + inner.iter().map(|(_, one)| one.depth()).max().unwrap_or(0),
        }
    }

    fn write(&self, out: &mut String, values: &Values<'_>) {
        match self {
            Self::Template(template) => out.push_str(&template.json(values).to_string()),
            Self::Constant(value) => out.push_str(&value.to_string()),
            Self::List(inner) => {
                out.push('[');
                for (index, one) in inner.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    one.write(out, values);
                }
                out.push(']');
            }
            Self::Object(inner) => {
                out.push('{');
                for (index, (name, one)) in inner.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    out.push_str(&Json::from(name.as_str()).to_string());
                    out.push(':');
                    one.write(out, values);
                }
                out.push('}');
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading;
        impl<'de> Visitor<'de> for Reading {
            type Value = Node;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a value of JSON")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Node, E> {
                Template::parse(text).map(Node::Template).map_err(E::custom)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Constant(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Constant(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Constant(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
                Ok(Node::Constant(value.into()))
            }

            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Constant(Json::Null))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut inner: A) -> Result<Node, A::Error> {
                let mut list = Vec::new();
                while let Some(one) = inner.next_element()? {
                    list.push(one);
                }
                Ok(Node::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut inner: A) -> Result<Node, A::Error> {
                let mut members: Vec<(String, Node)> = Vec::new();
                while let Some((name, one)) = inner.next_entry::<String, Node>()? {
                    if members.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom(format!("{name:?} stands there twice")));
                    }
                    members.push((name, one));
                }
                Ok(Node::Object(members))
            }
        }
        deserializer.deserialize_any(Reading)
    }
}
