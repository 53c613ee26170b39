//! An address that stays while what is behind it moves, as a Service of
//! Kubernetes does it: it hands connections on, holds none back, and refuses
//! them while there is nobody.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::net::sockopt;

/// A running relay. Its threads end with the process.
pub struct Relay {
    pub address: SocketAddr,
    to: Arc<Mutex<Option<SocketAddr>>>,
}

impl Relay {
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let to: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
        let current = Arc::clone(&to);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let to = *current.lock().unwrap_or_else(PoisonError::into_inner);
                match to.map(TcpStream::connect) {
                    Some(Ok(server)) => pass_on(client, server),
                    _ => refuse(&client),
                }
            }
        });
        Ok(Self { address, to })
    }

    /// Where new connections go from now on; nowhere with `None`.
    pub fn lead_to(&self, to: Option<SocketAddr>) {
        *self.to.lock().unwrap_or_else(PoisonError::into_inner) = to;
    }
}

/// A reset, which a client sees as soon as a refused connection.
fn refuse(client: &TcpStream) {
    // Where it cannot be set the connection is closed in good order instead.
    sockopt::set_socket_linger(client, Some(std::time::Duration::ZERO)).ok();
}

fn pass_on(client: TcpStream, server: TcpStream) {
    let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    std::thread::spawn(move || copy(&client, &server));
    std::thread::spawn(move || copy(&server_too, &client_too));
}

fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    // Whichever side ends, the other one is told.
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
