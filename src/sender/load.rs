//! How many events are sent, how fast, and with which bodies.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::Instant;

use super::Template;
use crate::event::ims;

/// How many events a [`Sender`](super::Sender) sends, and how fast.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// How many; without one until the stop.
    pub count: Option<u64>,
    /// Events per second by the clock, whatever the answers do; without one as
    /// fast as `concurrency` allows.
    pub rate: Option<f64>,
    /// Events under way at the same time, at the most; at least 1.
    pub concurrency: usize,
}

impl Load {
    /// When the event number `number` has to start; `None` where nothing but
    /// the concurrency says so.
    pub(super) fn due(&self, number: u64, started: Instant) -> Option<Instant> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "2^52 events take longer than anybody waits"
        )]
        let after = number as f64 / self.rate?;
        let after = Duration::try_from_secs_f64(after).ok()?;
        started.checked_add(after)
    }
}

/// Where the bodies of events come from.
#[derive(Debug, Clone)]
pub enum Bodies {
    /// The same bytes each time, sent as they are.
    Fixed(Bytes),
    /// Samples in turn, with new ids and times each time.
    Samples(Vec<Template>),
}

impl Bodies {
    /// Samples of one event type; `None` where it is unknown.
    pub fn of_type(event_type: &str) -> Option<Self> {
        Some(Self::Samples(vec![Template::new(ims::sample(event_type)?)]))
    }

    /// Samples of every event type, one after another.
    pub fn of_all_types() -> Self {
        let samples = ims::all_types().filter_map(ims::sample);
        Self::Samples(samples.map(Template::new).collect())
    }

    /// The body of the event number `number`, sent at the time `now`.
    pub fn body(&self, number: u64, now: Timestamp) -> Bytes {
        match self {
            Self::Fixed(body) => body.clone(),
            Self::Samples(samples) => {
                let turn = number % (samples.len().max(1) as u64);
                let turn = usize::try_from(turn).expect("below the number of samples");
                samples
                    .get(turn)
                    .map_or_else(Bytes::new, |sample| sample.render(now))
            }
        }
    }
}
