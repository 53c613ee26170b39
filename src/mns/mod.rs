//! The other way in: events that IMS puts into an MNS (SMQ) queue.
//!
//! ```text
//!  poller ─ receive ─▶ batch: MD5, JSON or base64 ─ accept ─▶ (the line) ─ commit ─▶ delete
//!    client, sign, xml, message, error      body      Ingest
//! ```
//!
//! A message is deleted after the commit of its event and never before, and one
//! that could not be stored is never deleted. What comes twice, from the queue
//! or over HTTP as well, is a duplicate like any other.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::ingest::Ingest;
use crate::request::SourceName;
use crate::server::Readiness;

mod backoff;
mod batch;
pub mod body;
pub mod client;
pub mod credentials;
pub mod error;
pub mod message;
pub mod metrics;
mod poller;
pub mod sign;
mod state;
mod wire;
pub mod xml;

pub use client::{Client, ClientError};
pub use credentials::{Credential, Credentials};
pub use error::{Code, MnsError};
pub use metrics::QueueMetrics;

use credentials::{Chain, CredentialSource, Fixed, Reread, Variables};
use poller::{Parts, Poller};
use state::QueueState;

/// One configured queue.
#[derive(Debug, Clone)]
pub struct QueueConfig {
    /// The name of its source.
    pub name: SourceName,
    /// The base URL: scheme, host, perhaps a port.
    pub endpoint: String,
    /// The name of the queue.
    pub queue: String,
    /// How long a poll waits for a message; whole seconds, 1 to 30.
    pub wait: Duration,
    /// The most messages of one poll, 1 to [`BATCH_MAX`](client::BATCH_MAX).
    pub batch: usize,
    /// How many polls there are at the same time.
    pub pollers: usize,
    /// How long a received message stays invisible; read from the queue where
    /// it is `None`.
    pub visibility_timeout: Option<Duration>,
    /// A message received more often is told about.
    pub max_receives: u32,
    /// Certificate authorities to trust beside the system's, for an https
    /// endpoint of one's own.
    pub ca_file: Option<PathBuf>,
    /// What requests are signed with.
    pub credentials: CredentialsConfig,
}

/// Where the credentials of a queue come from.
#[derive(Clone)]
pub enum CredentialsConfig {
    /// From the configuration and the files that it names.
    Fixed(Reread),
    /// From the places where the tools of Alibaba Cloud look.
    Chain(Variables),
}

impl CredentialsConfig {
    fn source(&self) -> Box<dyn CredentialSource> {
        match self {
            Self::Fixed(reread) => Box::new(Fixed::new(Arc::clone(reread))),
            Self::Chain(variables) => Box::new(Chain::new(variables.clone())),
        }
    }

    /// Where they would come from, in words and without a secret; asks nobody
    /// over the network.
    pub async fn would_use(&self) -> String {
        match self {
            Self::Fixed(_) => "the configuration".to_owned(),
            Self::Chain(variables) => Chain::new(variables.clone()).would_use().await,
        }
    }
}

impl fmt::Debug for CredentialsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fixed(_) => "Fixed",
            Self::Chain(_) => "Chain",
        })
    }
}

/// The pollers of all queues, at work.
#[derive(Debug)]
pub struct Queues {
    pollers: JoinSet<()>,
    stop: CancellationToken,
}

impl Queues {
    /// Starts to poll. A queue that cannot be reached is no error: it is tried
    /// again, and `readiness` names it.
    ///
    /// # Errors
    /// [`ClientError`], with the source, where a client cannot be made.
    pub fn start(
        configs: &[QueueConfig],
        ingest: &Arc<Ingest>,
        readiness: &Arc<Readiness>,
        metrics: &QueueMetrics,
    ) -> Result<Self, (SourceName, ClientError)> {
        let stop = CancellationToken::new();
        let mut pollers = JoinSet::new();
        for config in configs {
            let name = &config.name;
            let clock: &Arc<dyn Clock> = ingest.clock();
            let credentials = Credentials::new(config.credentials.source(), Arc::clone(clock));
            let (endpoint, queue) = (&config.endpoint, &config.queue);
            let state = QueueState::new(config, Arc::clone(readiness));
            let credentials = Arc::new(credentials);
            let ca_file = config.ca_file.as_deref();
            let client = Client::new(endpoint, queue, ca_file, credentials, Arc::clone(clock))
                .map_err(|error| (name.clone(), error))?;
            let parts = Parts {
                client,
                ingest: Arc::clone(ingest),
                metrics: metrics.of(name),
                state,
                clock: Arc::clone(clock),
            };
            let poller = Arc::new(Poller::new(config, parts));
            for _ in 0..config.pollers {
                pollers.spawn(keep_running(Arc::clone(&poller), stop.clone()));
            }
        }
        Ok(Self { pollers, stop })
    }

    /// Stops to poll; what was received is stored and deleted, or given back.
    pub async fn stop(&mut self) {
        self.stop.cancel();
        while self.pollers.join_next().await.is_some() {}
    }
}

/// How long a poller that panicked is left alone.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// A queue that nobody reads any more would fill up in silence; what a poller
/// held when it panicked comes again.
async fn keep_running(poller: Arc<Poller>, stop: CancellationToken) {
    while tokio::spawn(Arc::clone(&poller).run(stop.clone()))
        .await
        .is_err()
        && !stop.is_cancelled()
    {
        // The panic itself was logged by the panic hook.
        tokio::time::sleep(AFTER_PANIC).await;
    }
}
