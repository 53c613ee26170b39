//! Starts the built program on free ports in a folder of its own, and talks to
//! it as its users do.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ims_receiver::signature::ims::sign;
use serde_json::Value;

/// How long any condition may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(30);
pub const KEY: &str = "TestKey001TestKey001";
pub const URL: &str = "https://callbacks.example.com/ims/callback";

/// A folder with a configuration.
pub struct Folder {
    dir: tempfile::TempDir,
}

impl Folder {
    pub fn new(handlers: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let config = format!(
            r#"
[server]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[store]
path = {store:?}
[dispatch]
drain = "3s"
[sources.default]
kind = "http"
path = "/ims/callback"
callback_urls = ["{URL}"]
auth = {{ scheme = "ims", keys = ["{KEY}"] }}
{handlers}
"#,
            store = dir.path().join("data/events.db"),
        );
        std::fs::write(dir.path().join("receiver.toml"), config).expect("the configuration");
        Self { dir }
    }

    /// A folder whose one handler logs to `events.log` in it.
    pub fn with_log() -> Self {
        let folder = Self::new("");
        let config = folder.path("receiver.toml");
        let mut text = std::fs::read_to_string(&config).expect("the configuration");
        text.push_str(&format!(
            "[handlers.audit]\nkind = \"log\"\noutput = {:?}\n",
            folder.path("events.log")
        ));
        std::fs::write(config, text).expect("the configuration");
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ims-receiver"));
        command
            .arg("--config")
            .arg(self.path("receiver.toml"))
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    pub fn start(&self) -> Service {
        self.start_as(&mut self.command())
    }

    /// Starts the service by a command that ends up in [`Folder::command`].
    pub fn start_as(&self, command: &mut Command) -> Service {
        Service::start(command)
    }

    /// Ids of the events that the log handler wrote, in order, repeats included.
    pub fn logged(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("events.log")).unwrap_or_default();
        text.lines()
            // A kill may tear a line; it is written again.
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter_map(|line| Some(line["event_id"].as_str()?.to_owned()))
            .collect()
    }
}

/// A running service. Dropping it kills it and checks its log.
pub struct Service {
    child: Child,
    pub ingest: SocketAddr,
    pub admin: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

impl Service {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .arg("serve")
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the program starts");
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let lines = Arc::clone(&log);
        let stdout = child.stdout.take().expect("it is piped");
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                lines.lock().expect("plain push").push(line);
            }
        });
        let find = || {
            let log = log.lock().expect("plain read");
            let line = log.iter().find(|line| line.contains(r#""listening""#))?;
            let line: Value = serde_json::from_str(line).expect("log lines are JSON");
            let address = |key: &str| line[key].as_str()?.parse::<SocketAddr>().ok();
            Some((address("ingest")?, address("admin")?))
        };
        let (ingest, admin) = wait_for("the service listens", || {
            assert!(
                child.try_wait().expect("a child").is_none(),
                "it ended: {:#?}",
                log.lock()
            );
            find()
        });
        Self {
            child,
            ingest,
            admin,
            log,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("plain read").clone()
    }

    /// How many deliveries this start took over.
    pub fn taken_over(&self) -> u64 {
        self.log()
            .iter()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find_map(|line| line["taken_over"].as_u64())
            .expect("every start says how many it took over")
    }

    pub fn signal(&self, signal: &str) {
        let done = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status();
        assert!(done.expect("kill runs").success());
    }

    pub fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// Waits for its end; answers the exit code.
    pub fn wait(mut self) -> Option<i32> {
        let status = wait_for("the service ends", || {
            self.child.try_wait().expect("a child")
        });
        status.code()
    }

    /// Sends a signed event; answers status and body.
    pub fn send(&self, body: &str) -> Option<(u16, Value)> {
        send(self.ingest, body)
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        exchange(self.admin, request.as_bytes()).expect("the admin listener answers")
    }

    /// The head of the admin listener's answer, in lower case.
    pub fn head(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).expect("the admin listener accepts");
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (head, _) = answer.split_once("\r\n\r\n").expect("a head");
        head.to_lowercase()
    }

    /// The event as the admin listener shows it.
    pub fn event(&self, id: &str) -> Value {
        let (status, body) = self.get(&format!("/api/events/{id}"));
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("it is JSON")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = self.log();
        let panics: Vec<_> = log
            .iter()
            .filter(|line| line.contains("panicked"))
            .collect();
        if !std::thread::panicking() {
            assert!(panics.is_empty(), "{panics:#?}");
        }
    }
}

/// A body that no other call makes.
pub fn body(number: u64) -> String {
    format!(
        r#"{{"EventType":"ProduceMediaComplete","UserId":1833220977561234,"EventTime":"2026-11-24T08:48:14Z","MessageBody":{{"Status":"Success","JobId":"job-{number}","MediaId":"media-{number}"}}}}"#
    )
}

/// The signed head and body of a POST.
pub fn signed(body: &str) -> Vec<u8> {
    let timestamp = std::time::UNIX_EPOCH
        .elapsed()
        .expect("after 1970")
        .as_secs();
    let timestamp = timestamp.to_string();
    let signature = sign(URL, &timestamp, KEY);
    format!(
        "POST /ims/callback HTTP/1.1\r\nHost: callbacks.example.com\r\nConnection: close\r\n\
         Content-Type: application/json\r\nX-ICE-TIMESTAMP: {timestamp}\r\n\
         X-ICE-SIGNATURE: {signature}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Sends a signed event; `None` where the connection breaks.
pub fn send(to: SocketAddr, body: &str) -> Option<(u16, Value)> {
    let (status, body) = exchange(to, &signed(body))?;
    Some((status, serde_json::from_str(&body).unwrap_or(Value::Null)))
}

/// One request on a connection of its own.
pub fn exchange(to: SocketAddr, request: &[u8]) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(to).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(request).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// Asks until there is an answer.
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a command to its end; answers exit code, stdout and stderr.
pub fn output(command: &mut Command) -> (i32, String, String) {
    let output = command.output().expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
    (
        output.status.code().expect("it was not killed"),
        text(output.stdout),
        text(output.stderr),
    )
}

/// The bytes of a file.
pub fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("the file is there")
}
