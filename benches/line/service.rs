//! The built program as a process of its own, in a folder of its own.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

pub const KEY: &str = "TestKey001TestKey001";
pub const URL: &str = "https://callbacks.example.com/ims/callback";

/// How long any condition may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A store with its configuration, below the folder that the run was given.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new(below: &Path) -> anyhow::Result<Self> {
        Ok(Self(tempfile::tempdir_in(below)?))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Starts the service with these handlers, written as in the configuration.
    pub fn start(&self, handlers: &str) -> anyhow::Result<Service> {
        self.start_with("", handlers)
    }

    /// Starts it with a setting of the store beside.
    pub fn start_with(&self, setting: &str, handlers: &str) -> anyhow::Result<Service> {
        let config = self.path("receiver.toml");
        let text = format!(
            r#"
[server]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[store]
path = {store:?}
{setting}
[dispatch]
drain = "1s"
[sources.default]
kind = "http"
path = "/ims/callback"
callback_urls = ["{URL}"]
auth = {{ scheme = "ims", keys = ["{KEY}"] }}
{handlers}
"#,
            store = self.path("events.db"),
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_ims-receiver"));
        command.arg("--config").arg(config).arg("serve");
        command.stdin(Stdio::null());
        Service::start(command)
    }

    /// Answers a question to the store, beside the service.
    pub fn ask(&self, sql: &str) -> anyhow::Result<u64> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let connection = Connection::open_with_flags(self.path("events.db"), flags)?;
        connection.busy_timeout(PATIENCE)?;
        let count: i64 = connection.query_row(sql, [], |row| row.get(0))?;
        Ok(u64::try_from(count)?)
    }

    /// How long it takes until nothing is unfinished any more.
    pub fn drained(&self) -> anyhow::Result<Duration> {
        let since = Instant::now();
        while self.ask("SELECT count(*) FROM deliveries WHERE due IS NOT NULL")? > 0 {
            ensure!(since.elapsed() < PATIENCE, "the backlog never drained");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(since.elapsed())
    }
}

/// A process that logs where it listens.
pub struct Service {
    child: Child,
    pub ingest: SocketAddr,
    /// None where it has no such listener.
    pub admin: Option<SocketAddr>,
    /// From the start of the process to its line `listening`, when it is ready.
    pub started_in: Duration,
}

impl Service {
    /// Runs `command` until it says where it listens.
    pub fn start(mut command: Command) -> anyhow::Result<Self> {
        let since = Instant::now();
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .context("the program starts")?;
        let stdout = child.stdout.take().context("it is piped")?;
        let mut lines = BufReader::new(stdout).lines();
        let (ingest, admin) = loop {
            let Some(Ok(line)) = lines.next() else {
                bail!("it ended before it listened: {:?}", child.wait());
            };
            let line: Value = serde_json::from_str(&line).unwrap_or_default();
            if line["message"] == "listening" {
                let address = |name| line[name].as_str().map(str::parse).transpose();
                let ingest = address("ingest")?.context("it names its address")?;
                break (ingest, address("admin")?);
            }
        };
        let started_in = since.elapsed();
        // Somebody has to read its log, or it would be dropped and counted.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Ok(Self {
            child,
            ingest,
            admin,
            started_in,
        })
    }

    /// Resident memory now, in MiB.
    pub fn resident(&self) -> anyhow::Result<f64> {
        self.memory("VmRSS:")
    }

    /// The most resident memory it ever had, in MiB.
    pub fn peak(&self) -> anyhow::Result<f64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> anyhow::Result<f64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path)?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|line| line.split_whitespace().next());
        let kib: f64 = kib.context("the kernel tells the memory in KiB")?.parse()?;
        Ok(kib / 1024.0)
    }

    /// Stops it as an operator would, and waits.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.end()
    }

    /// The same for one whose successor takes its place.
    pub fn end(&mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id())?;
        let pid = rustix::process::Pid::from_raw(pid).context("a child has an id")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It has ended already where it was stopped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
