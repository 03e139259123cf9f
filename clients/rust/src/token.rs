//! The client's own credential.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;
use std::{fmt, fs, io};

use crate::secret::Secret;
use crate::{Error, options::lock};

const SHORTEST_TOKEN: usize = 22;

type TokenFn = dyn Fn() -> Result<Secret, Box<dyn std::error::Error + Send + Sync>> + Send + Sync;

/// Where the token comes from.
#[derive(Clone, Default)]
pub(crate) enum Token {
    #[default]
    None,
    Fixed(Secret),
    File(Arc<TokenFile>),
    Function(Arc<TokenFn>),
}

impl Token {
    /// The token of the moment; `None`: calls carry none.
    pub(crate) fn current(&self) -> Result<Option<Secret>, Error> {
        match self {
            Self::None => Ok(None),
            Self::Fixed(token) => check(token).map(|()| Some(token.clone())),
            Self::File(file) => file.read().map(Some),
            Self::Function(function) => {
                let token =
                    function().map_err(|error| Error::invalid(format!("there is no token: {error}")))?;
                check(&token).map(|()| Some(token))
            }
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::None => "none",
            Self::Fixed(_) => "fixed",
            Self::File(_) => "file",
            Self::Function(_) => "function",
        })
    }
}

/// Says what is wrong with a token, without showing it.
pub(crate) fn check(token: &Secret) -> Result<(), Error> {
    if token.expose().is_empty() {
        return Err(Error::invalid("the token is empty"));
    }
    if !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::invalid("the token must be printable ASCII without spaces"));
    }
    Ok(())
}

/// A file that is read once for each of its versions.
pub(crate) struct TokenFile {
    path: PathBuf,
    read: Mutex<Option<(Version, Secret)>>,
}

#[derive(PartialEq, Eq)]
struct Version {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

impl Version {
    // A replaced file is another file, even where its times were copied.
    fn of(file: &Metadata) -> Self {
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(file);
        #[cfg(not(unix))]
        let inode = 0;
        Self { modified: file.modified().ok(), length: file.len(), inode }
    }
}

impl TokenFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, read: Mutex::new(None) }
    }

    fn read(&self) -> Result<Secret, Error> {
        let version = Version::of(&fs::metadata(&self.path).map_err(|error| self.unreadable(&error))?);
        let mut read = lock(&self.read);
        if let Some((known, token)) = &*read
            && *known == version
        {
            return Ok(token.clone());
        }
        let content = fs::read_to_string(&self.path).map_err(|error| self.unreadable(&error))?;
        let token = Secret::from(content.trim());
        check(&token).map_err(|_| Error::invalid(format!("{} has no token", self.shown())))?;
        *read = Some((version, token.clone()));
        Ok(token)
    }

    fn unreadable(&self, error: &io::Error) -> Error {
        Error::invalid(format!("{} cannot be read: {error}", self.shown()))
    }

    /// Names the file, unless the path may be the token itself, given in the wrong place: a token
    /// has no slash and is long.
    fn shown(&self) -> String {
        let is_bare = self.path.file_name().map(Path::new) == Some(&self.path);
        if is_bare && self.path.as_os_str().len() >= SHORTEST_TOKEN {
            "the token file".to_owned()
        } else {
            format!("the token file \"{}\"", self.path.display())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Token, TokenFile};
    use crate::secret::{Secret, random_text};
    use std::path::PathBuf;
    use std::sync::Arc;

    #[test]
    fn a_file_is_read_again_when_it_has_changed() {
        let path = std::env::temp_dir().join(format!("keyfence-token-{}", random_text()));
        let token = Token::File(Arc::new(TokenFile::new(path.clone())));
        assert!(token.current().is_err());
        for content in ["kf_system_one\n", "kf_system_second"] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(token.current().unwrap().unwrap().expose(), content.trim());
        }
        std::fs::write(&path, "two words").unwrap();
        let error = token.current().unwrap_err().to_string();
        assert!(!error.contains("two words"), "{error}");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_token_in_place_of_a_path_is_not_shown() {
        let token =
            Token::File(Arc::new(TokenFile::new(PathBuf::from("kf_system_abcdefghijklmnopqrstuvwxyz"))));
        assert!(!format!("{}", token.current().unwrap_err()).contains("abcdef"));
    }

    #[test]
    fn a_token_with_a_line_break_is_refused() {
        let error = Token::Fixed(Secret::from("kf_system\r\nx: y")).current().unwrap_err();
        assert!(!error.to_string().contains("kf_system"));
    }
}
