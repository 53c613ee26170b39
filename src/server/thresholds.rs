//! From where on somebody should look: shared by the page's overview and by
//! `doctor`, so that neither calls well what the other calls bad.

use std::time::Duration;

/// With less room on its disk, in bytes, the store soon takes nothing any more.
pub const DISK_FREE_CRITICAL: u64 = 128 << 20;

/// Clocks further apart than this, in seconds, get near to what sources
/// tolerate.
pub const SKEW_SECONDS_MAX: f64 = 60.0;

/// Where one answer in a hundred takes longer, in milliseconds, the sender's
/// 3 s are not far.
pub const ACK_P99_MS_MAX: f64 = 1_000.0;

/// The sender gives up after 3 s; this is the last third, in milliseconds.
pub const ACK_MS_MAX: f64 = 2_000.0;

/// Answers of so many minutes count; older ones are history.
pub const ANSWERS_MINUTES: u32 = 60;

/// Older refusals are history.
pub const REFUSALS_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// A delivery that waits longer than this is not just being retried.
pub const PENDING_MAX: Duration = Duration::from_secs(15 * 60);

/// So many failures without one success since the start are no chance.
pub const FAILURES_MIN: u64 = 5;

/// A queue that is further behind than this, in seconds, is not keeping up.
pub const QUEUE_LAG_SECONDS_MAX: f64 = 300.0;

/// How much a refusal matters to which nothing was accepted since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalWeight {
    /// A sender that does not get through.
    Bad,
    /// Perhaps one, and perhaps a stranger.
    Look,
}

/// How much refusals for this reason matter while their source accepts
/// nothing: strangers have no signature, or come to no source's path.
pub fn weight_of_refusal(reason: &str) -> RefusalWeight {
    match reason {
        "missing" | "no_source" => RefusalWeight::Look,
        _ => RefusalWeight::Bad,
    }
}
