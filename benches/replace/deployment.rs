//! Where a service runs, and who stands in front of it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

use crate::proxy::{Proxy, free_address};
use crate::relay::Relay;
use crate::service::{Folder, KEY, Service, URL};

/// One row of the table.
pub struct Deployment {
    pub name: &'static str,
    pub kind: Kind,
    /// From the exit of the old instance to the start of the new one.
    pub pause: Duration,
    /// Whether losing an event is a fault.
    pub keeps_all: bool,
}

/// How a service is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// By a socket that outlives it.
    Socket,
    /// By its own port, which nobody holds in between.
    Direct,
    /// Through `config/nginx.conf`.
    Nginx,
    /// Through `config/haproxy.cfg`.
    Haproxy,
    /// Through an address that stays while the instances' addresses change;
    /// traffic goes to a new one when its probe has found it ready.
    Recreate,
}

/// From the moment an instance is ready to the traffic: a probe each second,
/// and what it takes until every node knows.
const PROBE: Duration = Duration::from_secs(1);

/// What stands in front of the service and stays while it is replaced.
pub enum Front {
    Socket(TcpListener),
    Nobody(SocketAddr),
    Proxy(Proxy, SocketAddr),
    Relay(Relay),
}

impl Front {
    pub fn new(kind: Kind) -> anyhow::Result<Self> {
        let address = free_address(Ipv4Addr::LOCALHOST.into());
        Ok(match kind {
            Kind::Socket => Self::Socket(TcpListener::bind("127.0.0.1:0")?),
            Kind::Direct => Self::Nobody(address),
            Kind::Nginx => Self::Proxy(Proxy::nginx(address), address),
            Kind::Haproxy => Self::Proxy(Proxy::haproxy(address), address),
            Kind::Recreate => Self::Relay(Relay::start()?),
        })
    }

    /// Where the sender sends, and the certificate that it has to trust there.
    pub fn target(&self) -> anyhow::Result<(String, Option<PathBuf>)> {
        let plain = |address: SocketAddr| format!("http://{address}/ims/callback");
        Ok(match self {
            Self::Socket(socket) => (plain(socket.local_addr()?), None),
            Self::Nobody(address) => (plain(*address), None),
            Self::Proxy(proxy, _) => (proxy.url(), Some(proxy.ca_file.clone())),
            Self::Relay(relay) => (plain(relay.address), None),
        })
    }

    /// Starts an instance behind it, and returns when traffic goes there.
    pub fn start(&self, folder: &Folder) -> anyhow::Result<Service> {
        let listen = match self {
            Self::Nobody(address) | Self::Proxy(_, address) => *address,
            Self::Socket(_) | Self::Relay(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        };
        let service = match self {
            Self::Socket(socket) => Service::start(inheriting(folder, socket)?)?,
            _ => Service::start(command(folder, listen)?)?,
        };
        if let Self::Relay(relay) = self {
            std::thread::sleep(PROBE);
            relay.lead_to(Some(service.ingest));
        }
        Ok(service)
    }

    /// What is true from the moment on that the instance has ended.
    pub fn ended(&self) {
        if let Self::Relay(relay) = self {
            relay.lead_to(None);
        }
    }
}

fn command(folder: &Folder, listen: SocketAddr) -> anyhow::Result<Command> {
    let config = folder.path("receiver.toml");
    let text = format!(
        r#"
[server]
listen = "{listen}"
[admin]
listen = "127.0.0.1:0"
[store]
path = {store:?}
[sources.default]
kind = "http"
path = "/ims/callback"
callback_urls = ["{URL}"]
auth = {{ scheme = "ims", keys = ["{KEY}"] }}
[handlers.audit]
kind = "log"
output = "/dev/null"
"#,
        store = folder.path("events.db"),
    );
    std::fs::write(&config, text).context("the configuration")?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_ims-receiver"));
    command.arg("--config").arg(config).arg("serve");
    command.stdin(Stdio::null());
    Ok(command)
}

/// As systemd starts it: the socket is descriptor 3, named by the process id.
fn inheriting(folder: &Folder, socket: &TcpListener) -> anyhow::Result<Command> {
    let program = command(folder, socket.local_addr()?)?;
    let mut shell = Command::new("sh");
    shell
        .args([
            "-c",
            r#"exec 3<&0 </dev/null; LISTEN_PID=$$ exec "$0" "$@""#,
        ])
        .arg(program.get_program())
        .args(program.get_args())
        .env("LISTEN_FDS", "1")
        .stdin(OwnedFd::from(socket.try_clone()?));
    Ok(shell)
}
