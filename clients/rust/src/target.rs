//! Where a server is, and whether what is sent to it stays on this machine.

use std::net::IpAddr;

use crate::Error;

/// How many characters a token has at least: 128 bits out of 64 characters.
const SHORTEST_TOKEN: usize = 22;

/// A server's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Unix(String),
    Network { authority: String, is_loopback: bool },
}

impl Target {
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        if text.is_empty() || text.contains(char::is_whitespace) {
            return Err(Error::invalid(format!("{} is not a target", shown(text))));
        }
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err(Error::invalid(format!("target {text:?} names no socket")));
            }
            return Ok(Self::Unix(path.to_owned()));
        }
        if text.contains("://") && !text.starts_with("dns://") {
            return Err(Error::invalid(format!(
                "target {text:?} is a URL: give host:port; TLS is decided by the builder's tls and insecure_plaintext"
            )));
        }
        let authority =
            text.strip_prefix("dns:").map_or(text, |rest| rest.strip_prefix("///").unwrap_or(rest));
        let host = host_of(authority).ok_or_else(|| {
            Error::invalid(format!(
                "target {} must name host and port, for example \"keyfence.example:443\", \
                 \"[::1]:50051\" or \"unix:/run/keyfence.sock\"",
                shown(text)
            ))
        })?;
        let is_loopback = match host.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback(),
            // RFC 6761, section 6.3: this name is the loopback interface, wherever it is resolved.
            Err(_) => host.eq_ignore_ascii_case("localhost"),
        };
        Ok(Self::Network { authority: authority.to_owned(), is_loopback })
    }

    /// Whether what is sent stays on this machine.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Network { is_loopback, .. } => *is_loopback,
        }
    }
}

fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = authority.rsplit_once(':')?;
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    if authority.contains('/') || port.parse::<u16>().is_err() || (host.contains(':') && !is_bracketed) {
        return None;
    }
    Some(host.trim_matches(['[', ']'])).filter(|host| !host.is_empty())
}

/// The target, unless it may be a token that was given in its place.
fn shown(target: &str) -> String {
    if target.contains(':') || target.len() < SHORTEST_TOKEN {
        format!("{target:?}")
    } else {
        "(not shown)".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::Target;

    #[test]
    fn what_stays_on_the_machine_is_local() {
        for (text, is_local) in [
            ("127.0.0.1:50051", true),
            ("127.5.0.1:1", true),
            ("[::1]:50051", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("localhost:50051", true),
            ("LOCALHOST:50051", true),
            ("dns:///localhost:50051", true),
            ("dns:localhost:50051", true),
            ("unix:/run/keyfence.sock", true),
            ("unix:///run/keyfence.sock", true),
            ("keyfence.example:443", false),
            ("dns:///keyfence.example:443", false),
            ("localhost.example:443", false),
            ("10.0.0.1:443", false),
            ("[2001:db8::1]:443", false),
        ] {
            assert_eq!(Target::parse(text).unwrap().is_local(), is_local, "{text}");
        }
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for text in [
            "",
            "keyfence.example",
            "host:",
            "host:port",
            "host:99999",
            ":443",
            "::1:50051",
            "a b:1",
            "http://localhost:50051",
            "https://keyfence.example:443",
            "unix:",
            "[]:1",
            "host/path:1",
            "dns://resolver/host:1",
        ] {
            assert!(Target::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_token_in_place_of_a_target_is_not_shown() {
        let error = Target::parse("kf_system_abcdefghijklmnopqrstuvwxyz").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("abcdef"));
    }
}
