//! Lets only callers with a good key through: [`GrpcGuard`] before tonic services, by what their
//! protos declare, and [`HttpGuard`] before HTTP services, in the words of the keyspace.

mod answers;
mod declared;
mod grpc;
mod http;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ::http::{Extensions, HeaderMap};

pub use self::grpc::{GrpcGuard, GrpcGuardLayer, GrpcGuardService};
pub use self::http::{HttpGuard, HttpGuardBuilder, HttpGuardLayer, HttpGuardService};
use crate::{Check, Client, Error, Principal, Verdict};

const CHECKS_IN_A_CALL: usize = 256;

/// Where a request comes from.
type ClientAddress = Arc<dyn Fn(&HeaderMap, &Extensions) -> Option<IpAddr> + Send + Sync>;

/// Whose key a guarded request was made with; `None` behind no guard.
#[must_use]
pub fn principal(extensions: &Extensions) -> Option<&Arc<Principal>> {
    extensions.get()
}

/// As [`principal`], for a handler of tonic.
#[must_use]
pub fn principal_of<T>(request: &tonic::Request<T>) -> Option<&Arc<Principal>> {
    request.extensions().get()
}

/// The other end of the connection, as far as tonic's server or this program's have told it.
fn other_end(_headers: &HeaderMap, extensions: &Extensions) -> Option<IpAddr> {
    use tonic::transport::server::TcpConnectInfo;
    #[cfg(feature = "tls")]
    if let Some(secured) = extensions.get::<tonic::transport::server::TlsConnectInfo<TcpConnectInfo>>() {
        return secured.get_ref().remote_addr().as_ref().map(SocketAddr::ip);
    }
    if let Some(connected) = extensions.get::<TcpConnectInfo>() {
        return connected.remote_addr().as_ref().map(SocketAddr::ip);
    }
    extensions.get::<SocketAddr>().map(SocketAddr::ip)
}

async fn ask(
    client: &Client,
    keyspace: &str,
    key: &str,
    scopes: &[String],
    address: Option<IpAddr>,
) -> Result<Verdict, Error> {
    let address = address.map(|address| address.to_canonical().to_string()).unwrap_or_default();
    let check = Check::key(key).keyspace(keyspace).client_address(&address);
    if scopes.is_empty() {
        return client.authenticate(check).await;
    }
    let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
    client.check_scope(check.scopes(&scopes)).await
}

/// Says which of the scopes the keyspace does not register. It asks about no key, which needs no more
/// than the scope `keys:check`: the server looks at the scopes first.
async fn unregistered(
    client: &Client,
    keyspace: &str,
    scopes: &BTreeSet<String>,
) -> Result<Vec<String>, Error> {
    let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let mut unknown = Vec::new();
    for batch in scopes.chunks(CHECKS_IN_A_CALL) {
        let checks: Vec<Check<'_>> =
            batch.chunks(1).map(|scope| Check::key("").keyspace(keyspace).scopes(scope)).collect();
        for (scope, result) in batch.iter().zip(client.batch_check_scope(&checks).await?) {
            if let Err(error) = result {
                unknown.push(format!("scope {scope:?} of keyspace {keyspace:?}: {error}"));
            }
        }
    }
    Ok(unknown)
}

fn verified(wrong: &[String]) -> Result<(), Error> {
    if wrong.is_empty() { Ok(()) } else { Err(Error::invalid(wrong.join("; "))) }
}

fn need_keyspace(keyspace: &str) -> Result<(), Error> {
    if keyspace.is_empty() {
        return Err(Error::invalid("a guard needs the keyspace whose keys it accepts"));
    }
    Ok(())
}

/// The key of a header `authorization`; `None` for another scheme than `Bearer`, or no key.
fn bearer(header: &str) -> Option<&str> {
    let (scheme, key) = header.split_once(' ')?;
    let key = key.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !key.is_empty()).then_some(key)
}
