//! The wiring: from settings to a running service, and its end.
//!
//! [`App::start`] takes the store's lock, binds, opens the store, and only
//! then accepts. [`App::stop`] goes the other way: handlers drain while
//! callbacks are still accepted and stored, then the listener closes, then the
//! store.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing_appender::non_blocking::ErrorCounter;

use crate::clock::Clock;
use crate::dispatch::retention::{Keeper, Retention};
use crate::dispatch::{DispatchMetrics, Dispatcher, LaneConfig};
use crate::handler::log::{LineFormat, Outputs};
use crate::handler::{self, BuildContext, BuildError, Handler};
use crate::ingest::{Ingest, IngestMetrics, last_events};
use crate::key_files;
use crate::lifecycle;
use crate::mns::{ClientError, QueueMetrics, Queues};
use crate::request::SourceName;
use crate::server::{
    self, Admin, AdminMetrics, AdminParts, Callback, ConnectionLimits, HandlerInfo, Readiness,
    Refusals, ServerMetrics, SourceInfo, Unready,
};
use crate::settings::{self, Settings};
use crate::signature::SchemeError;
use crate::store::{self, OpenError, Opened, Store, StoreConfig, StoreError, StoreMetrics};
use crate::telemetry::{self, DroppedLines};
use crate::trace::{self, Exporting, TraceError, TraceMetrics, Tracer};

mod listeners;

use listeners::listeners;

/// How often the gauges of the backlog are read.
const GAUGES: Duration = Duration::from_secs(2);

/// A start that was refused. Exit code 64, unless it [may pass](Self::may_pass).
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be bound.
    #[error(
        "{key}: cannot listen on {address}: {source}; is another process there already, or is the port below 1024?"
    )]
    Bind {
        /// The key of the address.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// An inherited socket cannot be used.
    #[error("an inherited socket cannot be used: {0}; pass TCP listeners, the public one first")]
    Inherited(std::io::Error),
    /// The admin listener would be open to others without a token.
    #[error("{0}")]
    Exposed(settings::Problem),
    /// The store cannot be used as it is.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// A handler cannot be built.
    #[error(transparent)]
    Handler(#[from] BuildError),
    /// A source's scheme cannot be built.
    #[error(transparent)]
    Scheme(#[from] SchemeError),
    /// A queue's client cannot be made.
    #[error(
        "sources.{source_name}.endpoint: {problem}; write the base URL that MNS shows for the queue's region"
    )]
    Queue {
        /// The name of the source.
        source_name: SourceName,
        /// What is wrong.
        problem: ClientError,
    },
    /// The exporter of traces cannot be made.
    #[error(transparent)]
    Traces(#[from] TraceError),
    /// The store opened and failed at once.
    #[error(
        "{path}: the store opened, but takes no commit; see that its disk has room and can be written, and start again"
    )]
    Broken {
        /// The file of the store.
        path: PathBuf,
        /// What the store says.
        source: StoreError,
    },
}

impl StartError {
    /// Whether the same start may work later without anybody changing it, so
    /// that a supervisor should try again.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Broken { .. } | Self::Store(OpenError::NoRoom { .. })
        )
    }
}

/// What a start needs beside the settings.
#[derive(Debug)]
pub struct Environment {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The shape of the `log` handler's lines.
    pub line_format: LineFormat,
    /// Counts dropped lines of the service's own log.
    pub dropped: Option<ErrorCounter>,
}

/// A running service.
pub struct App {
    /// Where callbacks arrive.
    pub ingest_address: SocketAddr,
    /// Where administration listens.
    pub admin_address: SocketAddr,
    readiness: Arc<Readiness>,
    dispatcher: Arc<Dispatcher>,
    store: Arc<dyn Store>,
    shutdown_delay: Duration,
    close_public: CancellationToken,
    close_admin: CancellationToken,
    upkeep: CancellationToken,
    public: JoinHandle<()>,
    admin: JoinHandle<()>,
    queues: Queues,
    exporting: Option<Exporting>,
}

/// The series of all components.
struct Metrics {
    server: ServerMetrics,
    admin: AdminMetrics,
    ingest: IngestMetrics,
    queues: QueueMetrics,
    dispatch: DispatchMetrics,
    store: StoreMetrics,
    dropped: DroppedLines,
    traces: TraceMetrics,
}

impl App {
    /// Starts the service.
    ///
    /// # Errors
    /// [`StartError`]; nothing was accepted then.
    pub async fn start(settings: &Settings, environment: Environment) -> Result<Self, StartError> {
        let lock = store::lock(&settings.store.path)?;
        let (public, admin) = listeners(settings)?;
        let address = |listener: &TcpListener| listener.local_addr().map_err(StartError::Inherited);
        let (ingest_address, admin_address) = (address(&public)?, address(&admin)?);
        settings::check_admin_exposure(&settings.admin, admin_address)
            .map_err(StartError::Exposed)?;

        let metrics = Metrics {
            server: ServerMetrics::new(),
            admin: AdminMetrics::new(),
            ingest: IngestMetrics::default(),
            queues: QueueMetrics::default(),
            dispatch: DispatchMetrics::new(settings.handlers.iter().map(|lane| &lane.name)),
            store: StoreMetrics::default(),
            dropped: DroppedLines::default(),
            traces: TraceMetrics::default(),
        };
        let readiness = Arc::new(Readiness::new());
        let refusals = Arc::new(Refusals::new());
        let close_admin = CancellationToken::new();
        let parts = admin_parts(settings, &environment, &readiness, &refusals, &metrics);
        let endpoint = Admin::new(&settings.admin, parts);
        let admin = tokio::spawn(server::run(
            admin,
            endpoint,
            Admin::LIMITS,
            close_admin.clone(),
        ));

        let (tracer, exporting) = traces(settings, &environment, &metrics)?;
        let handlers = handlers(settings, &environment, tracer.as_ref())?;
        let opened = store::open(
            StoreConfig {
                path: settings.store.path.clone(),
                dedup_window: settings.store.dedup_window,
                dedup_entries_max: settings.store.dedup_entries_max,
                clock: Arc::clone(&environment.clock),
                metrics: metrics.store.clone(),
            },
            lock,
        )?;
        let Opened { store, archive } = opened.clone();
        let dispatcher = Dispatcher::start(
            &settings.dispatch,
            handlers,
            Arc::clone(&store),
            Arc::clone(&environment.clock),
            metrics.dispatch.clone().with_tracer(tracer.clone()),
        )
        .await
        .map_err(|source| StartError::Broken {
            path: settings.store.path.clone(),
            source,
        })?;
        let ingest = Arc::new(
            Ingest::new(
                &settings.sources,
                Arc::clone(&store),
                Arc::clone(&dispatcher),
                Arc::clone(&environment.clock),
                metrics.ingest.clone(),
            )?
            .with_tracer(tracer),
        );

        let close_public = CancellationToken::new();
        let callback = Callback::new(
            &settings.server,
            Arc::clone(&ingest),
            Arc::clone(&readiness),
            &metrics.server,
            refusals,
            close_public.clone(),
        );
        readiness.store_opened(Arc::clone(&store));
        tokio::spawn(last_events::show(
            settings.source_names(),
            Arc::clone(&archive),
            metrics.ingest.clone(),
        ));
        readiness.archive_opened(archive);
        readiness.lanes_started(Arc::clone(&dispatcher) as Arc<dyn server::Lanes>);
        let queues = Queues::start(&settings.queues, &ingest, &readiness, &metrics.queues)
            .map_err(|(source_name, problem)| StartError::Queue {
                source_name,
                problem,
            })?;
        readiness.clear(Unready::Starting);
        let limits = ConnectionLimits {
            connections_max: lifecycle::room_for(settings.server.connections_max),
            ..ConnectionLimits::from(&settings.server)
        };
        let public = tokio::spawn(server::run(public, callback, limits, close_public.clone()));
        let upkeep = CancellationToken::new();
        follow_keys(settings, &ingest, &readiness, &upkeep);
        start_upkeep(settings, &environment, &opened, metrics, &upkeep);
        Ok(Self {
            ingest_address,
            admin_address,
            readiness,
            dispatcher,
            store,
            shutdown_delay: settings.server.shutdown_delay,
            close_public,
            close_admin,
            upkeep,
            public,
            admin,
            queues,
            exporting,
        })
    }

    /// Resolves when the public listener ended by itself, which it never should.
    pub async fn ended(&mut self) {
        // A panic of the task was logged by the panic hook.
        let _ = (&mut self.public).await;
        self.readiness.set(Unready::ListenerDown);
    }

    /// Waits until no delivery is unfinished, at most `patience`. A stop would
    /// leave what is not begun to the next start; a service that has none, such
    /// as the demo's, waits first.
    pub async fn finished(&self, patience: Duration) {
        const LOOK_AGAIN: Duration = Duration::from_millis(10);
        let idle = async {
            loop {
                let backlog = self.store.backlog().await;
                if backlog.is_ok_and(|all| all.values().all(|one| one.unfinished == 0)) {
                    return;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        // Whoever calls this goes on in either case.
        let _ = tokio::time::timeout(patience, idle).await;
    }

    /// SIGHUP: handlers reopen their files.
    pub fn reopen(&self) {
        self.dispatcher.reopen();
    }

    /// Ends the service: nothing that was acknowledged is lost, and callbacks
    /// are accepted until the handlers have drained.
    pub async fn stop(mut self) {
        self.readiness.set(Unready::Stopping);
        tokio::join!(
            self.dispatcher.drain(),
            self.queues.stop(),
            tokio::time::sleep(self.shutdown_delay)
        );
        self.upkeep.cancel();
        self.close_public.cancel();
        if !self.public.is_finished() {
            let _ = self.public.await;
        }
        let last_spans = async {
            if let Some(exporting) = self.exporting.take() {
                exporting.finish().await;
            }
        };
        tokio::join!(self.store.close(), last_spans);
        self.close_admin.cancel();
        let _ = self.admin.await;
    }
}

impl Metrics {
    fn registry(&self) -> prometheus_client::registry::Registry {
        let mut registry = telemetry::registry();
        self.server.register(&mut registry);
        self.admin.register(&mut registry);
        self.ingest.register(&mut registry);
        self.queues.register(&mut registry);
        self.dispatch.register(&mut registry);
        self.store.register(&mut registry);
        self.dropped.register(&mut registry);
        self.traces.register(&mut registry);
        registry
    }
}

/// What the admin listener shows and steers.
fn admin_parts(
    settings: &Settings,
    environment: &Environment,
    readiness: &Arc<Readiness>,
    refusals: &Arc<Refusals>,
    metrics: &Metrics,
) -> AdminParts {
    let http = settings.sources.iter().map(|source| SourceInfo {
        name: source.name.clone(),
        kind: "http",
    });
    let queues = settings.queues.iter().map(|queue| SourceInfo {
        name: queue.name.clone(),
        kind: "mns",
    });
    let mut sources: Vec<SourceInfo> = http.chain(queues).collect();
    sources.sort_by(|one, other| one.name.cmp(&other.name));
    let handlers = settings.handlers.iter().map(|lane| HandlerInfo {
        name: lane.name.clone(),
        kind: lane.handler.kind(),
    });
    AdminParts {
        readiness: Arc::clone(readiness),
        refusals: Arc::clone(refusals),
        registry: Arc::new(metrics.registry()),
        clock: Arc::clone(&environment.clock),
        server: metrics.server.clone(),
        ingest: metrics.ingest.clone(),
        queues: metrics.queues.clone(),
        dispatch: metrics.dispatch.clone(),
        metrics: metrics.admin.clone(),
        handlers: handlers.collect(),
        sources,
        disk_free_min: settings.store.disk_free_min,
    }
}

type Lanes = Vec<(LaneConfig, Arc<dyn Handler>)>;

/// The exporter of traces, where one is configured.
fn traces(
    settings: &Settings,
    environment: &Environment,
    metrics: &Metrics,
) -> Result<(Option<Tracer>, Option<Exporting>), TraceError> {
    let Some(config) = &settings.traces else {
        return Ok((None, None));
    };
    let clock = Arc::clone(&environment.clock);
    let (tracer, exporting) = trace::start(config, clock, metrics.traces.clone())?;
    Ok((Some(tracer), Some(exporting)))
}

fn handlers(
    settings: &Settings,
    environment: &Environment,
    tracer: Option<&Tracer>,
) -> Result<Lanes, BuildError> {
    let outputs = Outputs::default();
    settings
        .handlers
        .iter()
        .map(|lane| {
            let context = BuildContext {
                name: lane.name.clone(),
                timeout: lane.timeout,
                line_format: environment.line_format,
                outputs: &outputs,
                clock: Arc::clone(&environment.clock),
                tracer: tracer.cloned(),
            };
            Ok((lane.clone(), handler::build(&lane.handler, &context)?))
        })
        .collect()
}

/// The sources whose keys stand in a file.
fn follow_keys(
    settings: &Settings,
    ingest: &Ingest,
    readiness: &Arc<Readiness>,
    stop: &CancellationToken,
) {
    for (path, source) in ingest.sources() {
        let mut configs = settings.sources.iter();
        if let Some(config) = configs.find(|config| config.path == path) {
            key_files::follow(config, source, readiness, ingest.clock(), stop);
        }
    }
}

/// Retention, and the gauges that are read now and then.
fn start_upkeep(
    settings: &Settings,
    environment: &Environment,
    opened: &Opened,
    metrics: Metrics,
    stop: &CancellationToken,
) {
    let retention = Retention {
        finished: settings.store.retention,
        dead: settings.store.retention_dead,
        bytes_max: settings.store.retention_bytes,
        disk_free_min: settings.store.disk_free_min,
        path: settings.store.path.clone(),
    };
    let clock = Arc::clone(&environment.clock);
    let keeper = Keeper::new(retention, opened, clock, metrics.store.early_purged.clone());
    tokio::spawn(keeper.run(stop.clone()));
    let (store, clock) = (Arc::clone(&opened.store), Arc::clone(&environment.clock));
    let (dropped, stop) = (environment.dropped.clone(), stop.clone());
    tokio::spawn(async move {
        while !stop.is_cancelled() {
            if let Ok(backlog) = store.backlog().await {
                metrics.dispatch.set_backlog(&backlog, clock.now());
            }
            if let Some(dropped) = &dropped {
                metrics.dropped.set(dropped.dropped_lines());
            }
            let _ = tokio::time::timeout(GAUGES, stop.cancelled()).await;
        }
    });
}
