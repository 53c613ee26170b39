//! Who asked, for the log lines of what is changed. It is known where the
//! request comes in, and wanted where the change is made, which page and API
//! share.

use std::net::SocketAddr;

tokio::task_local! {
    static PEER: SocketAddr;
}

/// Answers a request of `peer`.
pub(super) async fn on_behalf_of<F: Future>(peer: SocketAddr, answer: F) -> F::Output {
    PEER.scope(peer, answer).await
}

/// Who asked for what is done now; `None` where nobody did.
pub(in crate::server) fn peer() -> Option<SocketAddr> {
    PEER.try_with(|peer| *peer).ok()
}
