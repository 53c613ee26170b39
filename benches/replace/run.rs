//! One deployment under steady load, replaced again and again.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ims_receiver::clock::SystemClock;
use ims_receiver::sender::{Bodies, Load, Sender, SenderConfig, SenderRule, Summary};
use tokio_util::sync::CancellationToken;

use crate::deployment::{Deployment, Front};
use crate::service::{Folder, KEY, URL};

/// From one replacement to the next: an event that met the one has had its
/// last try before the other begins.
const SETTLE: Duration = Duration::from_secs(5);

/// What is done to each deployment.
#[derive(Clone, Copy)]
pub struct Plan<'a> {
    pub times: u32,
    /// Events per second.
    pub rate: f64,
    pub folder: &'a Path,
}

/// What came of it.
pub struct Outcome {
    pub summary: Summary,
    /// The middle one of the times in which nobody accepted.
    pub down: Duration,
    /// Acknowledged events that are not in the store.
    pub missing: u64,
}

/// Replaces `deployment` as often as `plan` says.
pub fn run(deployment: &Deployment, plan: &Plan<'_>) -> anyhow::Result<Outcome> {
    let folder = Folder::new(plan.folder)?;
    let front = Front::new(deployment.kind)?;
    let mut service = front.start(&folder)?;
    let (target, ca_file) = front.target()?;
    let sender = Sender::new(SenderConfig {
        target,
        callback_url: Some(URL.into()),
        key: Some(KEY.into()),
        ca_file,
        rule: SenderRule::default(),
        clock: Arc::new(SystemClock),
    })?;
    let stop = CancellationToken::new();
    let load = steady(sender, plan.rate, stop.clone());

    let mut down = Vec::new();
    let replaced = (0..plan.times).try_for_each(|_| {
        std::thread::sleep(SETTLE);
        service.end()?;
        front.ended();
        let since = Instant::now();
        std::thread::sleep(deployment.pause);
        service = front.start(&folder)?;
        down.push(since.elapsed());
        anyhow::Ok(())
    });
    std::thread::sleep(SETTLE);
    stop.cancel();
    let summary = load.join().ok().context("the sender panicked")??;
    replaced?;
    down.sort();
    let stored = folder.ask("SELECT count(*) FROM events")?;
    Ok(Outcome {
        missing: summary.acked().saturating_sub(stored),
        down: down.get(down.len() / 2).copied().unwrap_or_default(),
        summary,
    })
}

/// Sends until it is stopped, then waits for what is under way.
fn steady(
    sender: Sender,
    rate: f64,
    stop: CancellationToken,
) -> std::thread::JoinHandle<anyhow::Result<Summary>> {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let load = Load {
            count: None,
            rate: Some(rate),
            concurrency: 10_000,
        };
        let bodies = Bodies::of_all_types();
        Ok(runtime.block_on(sender.send_many(load, &bodies, &stop, |_| {})))
    })
}
