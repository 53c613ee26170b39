//! The handler that runs a command of the user's.
//!
//! What the sender wrote reaches the command on stdin and in the values of the
//! environment, never in an argument or in the text of a script, so that there
//! is nothing to inject into. The command leads a process group of its own, in
//! the service's working directory, with its umask, 077, and at a lower priority. It has ended when
//! its first process has: what that left in the background goes on, unless the
//! command had to be ended, at its timeout or with the service; then the whole
//! group goes. A process that moves to a group of its own escapes that as well.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::process::Command;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{BuildContext, BuildError, Handler, HandlerError, Retry, add_notes};
use crate::delivery::{Delivery, Reason, Report};

mod output;
mod process;
pub mod program;
mod starter;
mod variables;

use process::{Asked, OVERTIME, Ran};
use starter::Starter;

/// Configuration of a `shell` handler.
#[derive(Debug, Clone)]
pub struct ShellConfig {
    /// The program and its arguments; never empty. A program without a slash
    /// is looked for in `PATH` at each attempt.
    pub command: Vec<String>,
    /// What its environment holds beside `PATH`, `HOME`, `LANG` and the event;
    /// names without `=` and NUL, values without NUL.
    pub env: Vec<(String, SecretString)>,
}

/// The variables of the service that commands see.
const PASSED_ON: [&str; 3] = ["PATH", "HOME", "LANG"];

/// Where programs are looked for when the service has no `PATH` itself.
const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin";

/// The exit code by which a command says that trying again cannot help.
const EXIT_NEVER: i32 = 100;

/// Runs a command of the user's.
pub struct ShellHandler {
    command: Vec<String>,
    /// The variables that are the same in every attempt; later ones replace
    /// earlier ones.
    environment: Vec<(OsString, OsString)>,
    timeout: Duration,
    starter: Starter,
}

impl ShellHandler {
    /// Prepares the environment; looks at no file and runs nothing.
    ///
    /// # Errors
    /// [`BuildError`] where the system allows no further thread.
    pub fn build(config: &ShellConfig, context: &BuildContext<'_>) -> Result<Self, BuildError> {
        let starter = Starter::new().map_err(|error| {
            let problem = format!("no thread can be had to start it: {error}");
            context.error("command", problem, "raise the limit of threads")
        })?;
        let mut environment = vec![("PATH".into(), PATH_DEFAULT.into())];
        let passed_on = PASSED_ON
            .iter()
            .filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)));
        environment.extend(passed_on);
        let own = config.env.iter();
        environment.extend(own.map(|(name, value)| (name.into(), value.expose_secret().into())));
        Ok(Self {
            command: config.command.clone(),
            environment,
            timeout: context.timeout,
            starter,
        })
    }

    /// The command with everything it gets, but stdin's content.
    fn command(&self, delivery: &Delivery, notes: &mut Vec<String>) -> io::Result<Command> {
        let mut argv = self.command.iter();
        let name = argv.next().map(String::as_str).unwrap_or_default();
        let mut paths = self.environment.iter().rev();
        let path = paths.find(|(name, _)| name == "PATH");
        // Found here, since the system's own search would cost a full fork.
        let program = program::find(name, path.map(|(_, value)| value.as_os_str()))
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        let mut command = Command::new(program);
        command
            .args(argv)
            .env_clear()
            .envs(environment)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for (name, value) in variables::of(delivery, notes) {
            command.env(name, &*value);
        }
        Ok(command)
    }

    async fn run(
        &self,
        delivery: &Delivery,
        stop: &CancellationToken,
        notes: &mut Vec<String>,
    ) -> io::Result<Ran> {
        let deadline = Instant::now() + self.timeout;
        let command = self.command(delivery, notes)?;
        let running = self.starter.start(command).await?;
        let body = delivery.event.content.body.clone();
        running.finish(body, deadline, stop).await
    }

    /// What an end means. What the command wrote is kept for people.
    fn judge(&self, ran: Ran, mut notes: Vec<String>) -> Result<Report, HandlerError> {
        let verdict = self.verdict(&ran);
        let mut report = serde_json::json!({
            "exit": ran.code,
            "stdout": ran.stdout.text("stdout", &mut notes),
            "stderr": ran.stderr.text("stderr", &mut notes),
        });
        if let Some(signal) = ran.signal {
            report["signal"] = signal.into();
        }
        notes.extend(ran.remarks);
        add_notes(&mut report, &notes);
        let report = Report(Some(report));
        match verdict {
            None => Ok(report),
            Some((retry, reason)) => Err(HandlerError {
                retry,
                reason: Reason::new(reason),
                report,
                source: None,
            }),
        }
    }

    /// Whether and when trying again can help, and why it failed; `None` is
    /// success.
    fn verdict(&self, ran: &Ran) -> Option<(Retry, String)> {
        let reason = match (ran.asked, ran.code, ran.signal) {
            (Some(Asked::ByTimeout), ..) => format!("timeout after {:?}", self.timeout),
            (Some(Asked::ByStop), ..) => "ended with the service".to_owned(),
            (None, Some(0), _) => return None,
            (None, Some(EXIT_NEVER), _) => return Some((Retry::Never, "exit 100".to_owned())),
            (None, Some(code), _) => format!("exit {code}"),
            (None, None, signal) => format!("signal {}", signal.unwrap_or_default()),
        };
        Some((Retry::WithBackoff, reason))
    }

    fn not_started(&self, error: io::Error, notes: &[String]) -> HandlerError {
        let name = self.command.first().map(String::as_str).unwrap_or_default();
        let report = (!notes.is_empty()).then(|| {
            let mut report = serde_json::json!({});
            add_notes(&mut report, notes);
            report
        });
        HandlerError {
            retry: Retry::WithBackoff,
            reason: Reason::new(format!("could not start: {}", program::fault(name, &error))),
            report: Report(report),
            source: Some(error.into()),
        }
    }
}

#[async_trait]
impl Handler for ShellHandler {
    /// At a stop the command gets TERM. A dropped future kills its whole group.
    async fn handle(
        &self,
        delivery: &Delivery,
        stop: &CancellationToken,
    ) -> Result<Report, HandlerError> {
        let mut notes = Vec::new();
        match self.run(delivery, stop, &mut notes).await {
            Ok(ran) => self.judge(ran, notes),
            Err(error) => Err(self.not_started(error, &notes)),
        }
    }

    fn overtime(&self) -> Duration {
        OVERTIME
    }
}

impl fmt::Debug for ShellHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShellHandler")
            .field("command", &self.command)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
