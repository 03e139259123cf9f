//! A real Keyfence.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, io, thread};

use crate::secret::random_text;
use crate::{Client, ClientBuilder, Secret};

const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(20);

/// A real Keyfence, as a process of its own, with its data in a folder that goes with it. It stops
/// when it is dropped.
#[derive(Debug)]
pub struct Process {
    target: String,
    token: Secret,
    running: Child,
    folder: PathBuf,
}

impl Process {
    /// Runs `keyfence serve` on a Unix socket. Settings are environment variables, such as
    /// `("KEYFENCE_LEASE_SECONDS", "1")`.
    ///
    /// The command is the environment's `KEYFENCE_COMMAND`, or else `keyfence` of the `PATH`. `None`:
    /// there is none, which is said on standard error, and with `CI` set it is a panic.
    ///
    /// # Panics
    ///
    /// If the server does not start: it is for tests.
    pub async fn start(settings: &[(&str, &str)]) -> Option<Self> {
        let told = env::var("KEYFENCE_COMMAND").unwrap_or_default();
        let mut command = told.split_whitespace();
        let program = command.next().unwrap_or("keyfence");
        // A socket's path must be short.
        let folder = env::temp_dir().join(format!("kf{}", &random_text()[..12]));
        fs::create_dir(&folder).expect("a folder can be made for the server");
        let target = format!("unix:{}", folder.join("keyfence.sock").display());
        let log = File::create(folder.join("log")).expect("the server's log can be written");
        let mut serve = Command::new(program);
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("KEYFENCE_") {
                serve.env_remove(name);
            }
        }
        let spawned = serve
            .args(command)
            .arg("serve")
            .envs(settings.iter().copied())
            .env("KEYFENCE_LISTEN", &target)
            .env("KEYFENCE_DATA_DIR", folder.join("data"))
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn();
        let running = match spawned {
            Ok(running) => running,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let _ = fs::remove_dir_all(&folder);
                let advice = "install keyfence-server or set KEYFENCE_COMMAND";
                assert!(env::var_os("CI").is_none(), "there is no command {program:?}: {advice}");
                eprintln!("SKIPPED: there is no command {program:?}: {advice}");
                return None;
            }
            Err(error) => panic!("{program} cannot be started: {error}"),
        };
        let mut process = Self { target, token: Secret::default(), running, folder };
        process.wait_until_it_answers().await;
        Some(process)
    }

    /// The server's address, for [`Client::builder`].
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The first operator credential, which may do everything.
    #[must_use]
    pub fn token(&self) -> &Secret {
        &self.token
    }

    /// The server's process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.running.id()
    }

    /// Sets up a client with the first credential.
    pub fn builder(&self) -> ClientBuilder {
        Client::builder(&self.target).token(self.token.clone())
    }

    async fn wait_until_it_answers(&mut self) {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let has_ended = self.running.try_wait().expect("a child can be waited for").is_some();
            assert!(
                !has_ended && Instant::now() < deadline,
                "keyfence serve does not answer:\n{}",
                self.log()
            );
            if let Ok(token) = fs::read_to_string(self.folder.join("data/root.key"))
                && !token.trim().is_empty()
            {
                self.token = Secret::from(token.trim());
                let client = self.builder().build().expect("the client is set up well");
                if client.with_timeout(Duration::from_secs(1)).who_am_i().await.is_ok() {
                    return;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn stop(&mut self) {
        #[cfg(unix)]
        if let Some(id) = i32::try_from(self.running.id()).ok().and_then(rustix::process::Pid::from_raw) {
            // It has ended by itself, or ends now.
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        while cfg!(unix) && Instant::now() < deadline {
            if !matches!(self.running.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(PAUSE);
        }
        let _ = self.running.kill();
        let _ = self.running.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
        // What is left of it is in the system's folder for temporary files.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
