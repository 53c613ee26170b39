//! Debian's nginx and HAProxy with the files in `config/`, on free ports and
//! with a certificate of their own. The bench `replace` starts them as well.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a proxy may take to listen.
const START_MAX: Duration = Duration::from_secs(10);

/// A running proxy; dropping it ends it.
pub struct Proxy {
    child: Child,
    /// Where it listens, with TLS.
    pub address: SocketAddr,
    /// The certificate to trust, as PEM.
    pub ca_file: PathBuf,
    dir: tempfile::TempDir,
}

impl Proxy {
    /// nginx with `config/nginx.conf`, in front of the receiver at `to`.
    pub fn nginx(to: SocketAddr) -> Self {
        Self::start(|dir, address| {
            let site = example("nginx.conf")
                .swap("listen 443 ", &format!("listen {address} "))
                .swap("server 127.0.0.1:8080;", &format!("server {to};"))
                .swap("/etc/ssl/callbacks/fullchain.pem", &named(dir, "chain.pem"))
                .swap("/etc/ssl/callbacks/privkey.pem", &named(dir, "key.pem"));
            write(dir, "site.conf", &site);
            // What Debian's own nginx.conf would say, within the folder.
            let main = format!(
                "daemon off;\nworker_processes 1;\npid {pid};\nerror_log stderr;\n{user}\
                 events {{ worker_connections 1024; }}\n\
                 http {{\naccess_log off;\nclient_body_temp_path {body};\n\
                 proxy_temp_path {proxy};\nfastcgi_temp_path {proxy};\n\
                 uwsgi_temp_path {proxy};\nscgi_temp_path {proxy};\ninclude {site};\n}}\n",
                pid = named(dir, "pid"),
                body = named(dir, "body"),
                proxy = named(dir, "proxy"),
                site = named(dir, "site.conf"),
                // Without root the directive is only warned about.
                user = "user root;\n",
            );
            write(dir, "nginx.conf", &main);
            let mut command = Command::new("/usr/sbin/nginx");
            command.arg("-p").arg(dir).arg("-c");
            command.arg(dir.join("nginx.conf"));
            command
        })
    }

    /// HAProxy with `config/haproxy.cfg`, in front of the receiver at `to`.
    pub fn haproxy(to: SocketAddr) -> Self {
        Self::start(|dir, address| {
            let pem = std::fs::read_to_string(dir.join("chain.pem")).expect("a certificate")
                + &std::fs::read_to_string(dir.join("key.pem")).expect("a key");
            write(dir, "callbacks.pem", &pem);
            let config = example("haproxy.cfg")
                .swap("bind :443 ", &format!("bind {address} "))
                .swap("server receiver 127.0.0.1:8080 ", &server("receiver", to))
                .swap("server held 127.0.0.1:8080 ", &server("held", to))
                .swap(
                    "/etc/ssl/callbacks/callbacks.pem",
                    &named(dir, "callbacks.pem"),
                );
            write(dir, "haproxy.cfg", &config);
            let mut command = Command::new("/usr/sbin/haproxy");
            command.arg("-db").arg("-f").arg(dir.join("haproxy.cfg"));
            command
        })
    }

    fn start(prepare: impl FnOnce(&Path, SocketAddr) -> Command) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let certificate =
            rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        let ca_file = dir.path().join("chain.pem");
        std::fs::write(&ca_file, certificate.cert.pem()).expect("a file");
        let key = certificate.signing_key.serialize_pem();
        write(dir.path(), "key.pem", &key);

        let address = free_address(Ipv4Addr::LOCALHOST.into());
        let mut command = prepare(dir.path(), address);
        let log = std::fs::File::create(dir.path().join("log")).expect("a file");
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a copy of the descriptor"))
            .stderr(log)
            .spawn()
            .expect("the proxy is installed; tests/run does it");
        let mut proxy = Self {
            child,
            address,
            ca_file,
            dir,
        };
        let deadline = Instant::now() + START_MAX;
        while TcpStream::connect(address).is_err() {
            let ended = proxy.child.try_wait().expect("a child");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "the proxy does not listen: {}",
                proxy.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        proxy
    }

    /// The URL of the one path that goes through.
    pub fn url(&self) -> String {
        format!("https://{}/ims/callback", self.address)
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // nginx's workers end with their master only where it is asked to.
        let pid = i32::try_from(self.child.id()).ok();
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

/// An address that nobody listens on.
pub fn free_address(ip: std::net::IpAddr) -> SocketAddr {
    let socket = TcpListener::bind((ip, 0)).expect("a free port");
    socket.local_addr().expect("it is bound")
}

/// A file of `config/` on its way to what a test can run.
struct Example(String);

fn example(name: &str) -> Example {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("config")
        .join(name);
    Example(std::fs::read_to_string(path).expect("an example"))
}

impl Example {
    /// Another value in a place that has to be there.
    fn swap(self, from: &str, to: &str) -> Self {
        assert_eq!(self.0.matches(from).count(), 1, "{from} is not there once");
        Self(self.0.replace(from, to))
    }
}

impl std::ops::Deref for Example {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

fn server(name: &str, to: SocketAddr) -> String {
    format!("server {name} {to} ")
}

fn named(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().expect("UTF-8").to_owned()
}

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).expect("a file");
}
