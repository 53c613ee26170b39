//! The two sockets: inherited from whoever started the service, or its own.

use std::net::SocketAddr;
use std::os::fd::AsFd;

use listenfd::ListenFd;
use rustix::io::{FdFlags, fcntl_setfd};
use tokio::net::{TcpListener, TcpSocket};

use super::StartError;
use crate::settings::Settings;

/// Connections that may wait in the kernel's queue while nobody accepts.
const BACKLOG: u32 = 4096;

/// The inherited sockets, or new ones on the configured addresses.
pub(super) fn listeners(settings: &Settings) -> Result<(TcpListener, TcpListener), StartError> {
    let mut inherited = ListenFd::from_env();
    let mut take = |index, key, address| -> Result<TcpListener, StartError> {
        match inherited.take_tcp_listener(index) {
            Ok(Some(listener)) => adopt(listener).map_err(StartError::Inherited),
            Ok(None) => bind(address).map_err(|source| StartError::Bind {
                key,
                address,
                source,
            }),
            Err(error) => Err(StartError::Inherited(error)),
        }
    };
    Ok((
        take(0, "server.listen", settings.server.listen)?,
        take(1, "admin.listen", settings.admin.listen)?,
    ))
}

/// Inherited descriptors are not close-on-exec: without it every command would
/// hold the port.
fn adopt(listener: std::net::TcpListener) -> std::io::Result<TcpListener> {
    fcntl_setfd(listener.as_fd(), FdFlags::CLOEXEC)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A restart must not wait for connections of the last run to time out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
