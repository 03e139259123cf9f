//! Texts that must not be printed.

use std::fmt;

pub(crate) const REDACTED: &str = "(redacted)";

/// A key or a token in plaintext. It is never printed: `Debug` shows `(redacted)` in its place.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The plaintext.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(REDACTED)
    }
}

impl From<String> for Secret {
    fn from(plaintext: String) -> Self {
        Self(plaintext)
    }
}

impl From<&str> for Secret {
    fn from(plaintext: &str) -> Self {
        Self(plaintext.to_owned())
    }
}

/// What generated messages print of a secret: whether there is one.
pub(crate) fn shown<T: AsRef<[u8]> + ?Sized>(secret: &T) -> impl fmt::Debug + use<T> {
    struct Shown(bool);
    impl fmt::Debug for Shown {
        fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str(if self.0 { "\"\"" } else { REDACTED })
        }
    }
    Shown(secret.as_ref().is_empty())
}

/// A random text of 128 bits, in hexadecimal.
pub(crate) fn random_text() -> String {
    format!("{:032x}", u128::from_le_bytes(random_bytes()))
}

pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Without randomness of the system a process cannot keep a secret, so it must not go on.
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}

/// A number that is at least `low` and less than `high`, for pauses.
pub(crate) fn random_between(low: f64, high: f64) -> f64 {
    let share = f64::from(u32::from_le_bytes(random_bytes())) / (f64::from(u32::MAX) + 1.0);
    low + (high - low) * share
}
