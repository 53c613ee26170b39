//! Work that may be interrupted between two steps.

use tokio_util::sync::CancellationToken;

/// Ctrl-C ends the work after the step under way, so that it can be said how
/// far it came; a second one ends the program at once.
pub(super) fn stop_on_interrupt() -> CancellationToken {
    let stop = CancellationToken::new();
    let cancel = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            cancel.cancel();
        }
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(1);
        }
    });
    stop
}
