//! Starts the built program on free ports in a folder of its own, and talks to
//! it as its users do.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
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
    /// Variables of the environment that change the configuration.
    settings: Vec<(String, String)>,
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
        Self {
            dir,
            settings: Vec::new(),
        }
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

    /// The same folder with another value under `key`, such as `store.path`.
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        let name = key.to_uppercase().replace('.', "__");
        self.settings
            .push((format!("IMS_RECEIVER__{name}"), value.to_string()));
        self
    }

    /// The same folder with a variable of the environment.
    pub fn variable(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.push((name.to_owned(), value.to_string()));
        self
    }

    /// The same folder with more of a configuration.
    pub fn configured(self, more: &str) -> Self {
        let config = self.path("receiver.toml");
        let mut text = std::fs::read_to_string(&config).expect("the configuration");
        text.push_str(more);
        std::fs::write(config, text).expect("the configuration");
        self
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
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    pub fn start(&self) -> Service {
        Service::start(&mut self.command())
    }

    /// Starts the service, which may refuse.
    pub fn try_start(&self) -> Result<Service, Refused> {
        Service::try_start(&mut self.command())
    }

    /// Starts the service by a shell with this umask.
    pub fn start_under(&self, umask: &str) -> Service {
        let program = self.command();
        let mut shell = Command::new("sh");
        shell
            .args(["-c", r#"umask "$0" && exec "$@""#, umask])
            .arg(program.get_program())
            .args(program.get_args())
            .current_dir(self.dir.path())
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        Service::start(&mut shell)
    }

    /// Starts the service on a socket that it inherits, as systemd does it:
    /// descriptor 3, named by process id.
    pub fn start_on(&self, listener: &TcpListener) -> Service {
        let inherited = listener.try_clone().expect("a copy of the descriptor");
        let program = self.command();
        let mut shell = Command::new("sh");
        shell
            .args([
                "-c",
                r#"exec 3<&0 </dev/null; LISTEN_PID=$$ exec "$0" "$@""#,
            ])
            .arg(program.get_program())
            .args(program.get_args())
            .current_dir(self.dir.path())
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .env("LISTEN_FDS", "1")
            .stdin(OwnedFd::from(inherited));
        Service::start(&mut shell)
    }

    /// Lines that the log handler wrote, in order, repeats included.
    pub fn lines(&self) -> Vec<Value> {
        self.lines_of("events.log")
    }

    pub fn lines_of(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines()
            // A kill may tear a line; it is written again.
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Starts the service by a command that ends up in [`Folder::command`].
    pub fn start_as(&self, command: &mut Command) -> Service {
        Service::start(command)
    }

    /// Ids of the events that the log handler wrote, in order, repeats included.
    pub fn logged(&self) -> Vec<String> {
        self.lines()
            .iter()
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
        Self::try_start(command).unwrap_or_else(|refusal| panic!("it ended: {refusal:?}"))
    }

    /// Waits until it listens; answers exit code and output where it ends
    /// before that.
    fn try_start(command: &mut Command) -> Result<Self, Refused> {
        let mut child = command
            .arg("serve")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let stdout = child.stdout.take().expect("it is piped");
        let stderr = child.stderr.take().expect("it is piped");
        let readers = [
            keep_lines(stdout, Arc::clone(&log)),
            keep_lines(stderr, Arc::clone(&log)),
        ];
        let find = || {
            let log = log.lock().expect("plain read");
            let line = log.iter().find(|line| line.contains(r#""listening""#))?;
            let line: Value = serde_json::from_str(line).expect("log lines are JSON");
            let address = |key: &str| line[key].as_str()?.parse::<SocketAddr>().ok();
            Some((address("ingest")?, address("admin")?))
        };
        let (ingest, admin) = match wait_for("the service listens or ends", || {
            let ended = child.try_wait().expect("a child");
            ended.map(Err).or_else(|| find().map(Ok))
        }) {
            Ok(addresses) => addresses,
            Err(status) => {
                for reader in readers {
                    reader.join().expect("a reader does not panic");
                }
                let output = log.lock().expect("plain read").join("\n");
                return Err(Refused {
                    code: status.code(),
                    output,
                });
            }
        };
        Ok(Self {
            child,
            ingest,
            admin,
            log,
        })
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

    /// Resident memory in MiB.
    pub fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        let kib: u64 = number.and_then(|n| n.parse().ok()).expect("a number");
        kib / 1024
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
        get(self.admin, path).expect("the admin listener answers")
    }

    /// The head of the admin listener's answer, in lower case.
    pub fn head(&self, path: &str) -> String {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = exchange_whole(self.admin, request.as_bytes());
        answer.expect("the admin listener answers").1
    }

    /// The event as the admin listener shows it.
    pub fn event(&self, id: &str) -> Value {
        let (status, body) = self.get(&format!("/api/events/{id}"));
        assert_eq!(status, 200, "{body} {:#?}", self.log());
        serde_json::from_str(&body).expect("it is JSON")
    }

    /// The event, once none of its deliveries waits or runs any more.
    pub fn finished(&self, id: &str) -> Value {
        wait_for("every delivery of the event is finished", || {
            let event = self.event(id);
            let deliveries = event["deliveries"].as_array().expect("a list");
            assert!(!deliveries.is_empty(), "no handler wanted it: {event:#}");
            let done = |one: &Value| one["status"] == "succeeded" || one["status"] == "dead";
            deliveries.iter().all(done).then_some(event)
        })
    }

    /// The event, each of whose deliveries has to succeed.
    pub fn succeeded(&self, id: &str) -> Value {
        let event = self.finished(id);
        let deliveries = event["deliveries"].as_array().expect("a list");
        for delivery in deliveries {
            assert_eq!(delivery["status"], "succeeded", "{event:#}");
        }
        event
    }

    /// A series of the metrics, by its name and labels.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let (_, metrics) = self.get("/metrics");
        let line = metrics.lines().find_map(|line| line.strip_prefix(series))?;
        line.trim().parse().ok()
    }
}

/// A start that ended before it listened.
#[derive(Debug)]
pub struct Refused {
    pub code: Option<i32>,
    pub output: String,
}

fn keep_lines(from: impl Read + Send + 'static, log: Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            log.lock().expect("plain push").push(line);
        }
    })
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

/// A signed POST that a test can change before it sends it.
#[derive(Clone, Copy)]
pub struct Post<'a> {
    pub path: &'a str,
    pub url: &'a str,
    pub key: &'a str,
    pub content_type: &'a str,
    pub body: &'a [u8],
}

impl<'a> Post<'a> {
    pub fn of(body: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self {
            path: "/ims/callback",
            url: URL,
            key: KEY,
            content_type: "application/json",
            body: body.as_ref(),
        }
    }

    /// The head with these further lines, without its end.
    pub fn head(&self, lines: &str) -> String {
        let timestamp = std::time::UNIX_EPOCH
            .elapsed()
            .expect("after 1970")
            .as_secs()
            .to_string();
        let signature = sign(self.url, &timestamp, self.key);
        format!(
            "POST {} HTTP/1.1\r\nHost: callbacks.example.com\r\nConnection: close\r\n\
             Content-Type: {}\r\nX-ICE-TIMESTAMP: {timestamp}\r\n\
             X-ICE-SIGNATURE: {signature}\r\n{lines}",
            self.path, self.content_type,
        )
    }

    /// Head and body.
    pub fn bytes(&self) -> Vec<u8> {
        let head = self.head(&format!("Content-Length: {}\r\n\r\n", self.body.len()));
        [head.as_bytes(), self.body].concat()
    }

    /// Sends it; `None` where the connection breaks.
    pub fn send(&self, to: SocketAddr) -> Option<(u16, Value)> {
        let (status, body) = exchange(to, &self.bytes())?;
        Some((status, serde_json::from_str(&body).unwrap_or(Value::Null)))
    }
}

/// The signed head and body of a POST.
pub fn signed(body: &str) -> Vec<u8> {
    Post::of(body).bytes()
}

/// Sends a signed event; `None` where the connection breaks.
pub fn send(to: SocketAddr, body: &str) -> Option<(u16, Value)> {
    Post::of(body).send(to)
}

/// Sends a signed event that has to be accepted; answers its id and whether it
/// was known.
pub fn accepted(to: SocketAddr, body: &str) -> (String, bool) {
    let (status, answer) = send(to, body).expect("an answer");
    assert_eq!(status, 200, "{answer}");
    let id = answer["id"].as_str().expect("an id").to_owned();
    (id, answer["duplicate"].as_bool().expect("true or false"))
}

pub fn get(from: SocketAddr, path: &str) -> Option<(u16, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    exchange(from, request.as_bytes())
}

/// One request on a connection of its own.
pub fn exchange(to: SocketAddr, request: &[u8]) -> Option<(u16, String)> {
    let (status, _, body) = exchange_whole(to, request)?;
    Some((status, body))
}

/// The same with the head of the answer, in lower case.
pub fn exchange_whole(to: SocketAddr, request: &[u8]) -> Option<(u16, String, String)> {
    let mut stream = TcpStream::connect(to).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(request).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, head.to_lowercase(), body.to_owned()))
}

/// Asks until there is an answer.
pub fn wait_for<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    wait_at_most(PATIENCE, what, ask)
}

/// The same with another patience.
pub fn wait_at_most<T>(patience: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
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
