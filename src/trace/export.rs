//! From ended spans to a collector, over OTLP/HTTP: in batches, bounded, and
//! lossy. Whoever ends a span never waits, and a collector that is gone costs
//! the service nothing but its spans.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use opentelemetry::InstrumentationScope;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    Protocol, RetryPolicy, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use reqwest::{Client, Url};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{Inner, SampleRatio, TraceMetrics, Tracer};
use crate::clock::Clock;
use crate::handler::forward::failure;
use crate::handler::tls::{Trust, client_config};

/// Spans that wait for the exporter at the most; further ones are dropped.
const SPANS_MAX: usize = 4096;
/// Spans in one request to the collector.
const BATCH_MAX: usize = 512;
/// How long a batch that is not full waits for more.
const LINGER: Duration = Duration::from_millis(500);
/// How long the collector may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a stop waits for the last spans to leave.
const FINISH_TIMEOUT: Duration = Duration::from_millis(500);
/// More of a collector's answer is not read.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Where spans go.
#[derive(Debug, Clone)]
pub struct TraceConfig {
    /// The collector's URL, the path of the signal included.
    pub endpoint: String,
    /// Header fields of each request to it.
    pub headers: Vec<(String, SecretString)>,
    /// The share of events whose trace is exported, from 0 to 1.
    pub sample_ratio: f64,
    /// What the service calls itself.
    pub service_name: String,
}

/// An exporter that cannot be made; the message names no secret.
#[derive(Debug, thiserror::Error)]
#[error("telemetry.otlp_endpoint: {0}")]
pub struct TraceError(String);

/// A running exporter.
#[derive(Debug)]
pub struct Exporting {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Exporting {
    /// Sends what waits, for half a second at most, and ends.
    pub async fn finish(mut self) {
        self.stop.cancel();
        if timeout(FINISH_TIMEOUT, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

/// Starts an exporter; connects to nobody before there is a span.
///
/// # Errors
/// [`TraceError`] where the client cannot be made.
pub fn start(
    config: &TraceConfig,
    clock: Arc<dyn Clock>,
    metrics: TraceMetrics,
) -> Result<(Tracer, Exporting), TraceError> {
    let exporter = exporter(config)?;
    let (sender, spans) = mpsc::channel(SPANS_MAX);
    let version = env!("CARGO_PKG_VERSION");
    let scope = InstrumentationScope::builder("ims-receiver").with_version(version);
    let stop = CancellationToken::new();
    let task = tokio::spawn(run(exporter, spans, metrics.clone(), stop.clone()));
    let tracer = Tracer(Arc::new(Inner {
        ratio: SampleRatio::new(config.sample_ratio),
        spans: sender,
        scope: scope.build(),
        clock,
        metrics,
    }));
    Ok((tracer, Exporting { stop, task }))
}

fn exporter(config: &TraceConfig) -> Result<SpanExporter, TraceError> {
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Collector::new(config)?)
        .with_endpoint(&config.endpoint)
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(EXPORT_TIMEOUT)
        // Whoever waits for another try fills the queue meanwhile.
        .with_retry_policy(RetryPolicy::disabled())
        .build()
        .map_err(|error| TraceError(error.to_string()))?;
    let resource = Resource::builder_empty()
        .with_service_name(config.service_name.clone())
        .with_attribute(opentelemetry::KeyValue::new(
            "service.version",
            env!("CARGO_PKG_VERSION"),
        ))
        .build();
    exporter.set_resource(&resource);
    Ok(exporter)
}

/// Exports until the stop, then what is left.
async fn run(
    exporter: SpanExporter,
    mut spans: mpsc::Receiver<SpanData>,
    metrics: TraceMetrics,
    stop: CancellationToken,
) {
    loop {
        let mut batch = Vec::new();
        tokio::select! {
            count = spans.recv_many(&mut batch, BATCH_MAX) => if count == 0 { return },
            () = stop.cancelled() => break,
        }
        gather(&mut spans, &mut batch, &stop).await;
        export(&exporter, batch, &metrics).await;
    }
    loop {
        let mut batch = Vec::new();
        while batch.len() < BATCH_MAX
            && let Ok(span) = spans.try_recv()
        {
            batch.push(span);
        }
        if batch.is_empty() {
            return;
        }
        export(&exporter, batch, &metrics).await;
    }
}

/// Fills `batch` with what comes within a moment.
async fn gather(
    spans: &mut mpsc::Receiver<SpanData>,
    batch: &mut Vec<SpanData>,
    stop: &CancellationToken,
) {
    let until = Instant::now() + LINGER;
    while batch.len() < BATCH_MAX {
        let room = BATCH_MAX - batch.len();
        tokio::select! {
            more = timeout_at(until, spans.recv_many(batch, room)) => match more {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            },
            () = stop.cancelled() => return,
        }
    }
}

async fn export(exporter: &SpanExporter, batch: Vec<SpanData>, metrics: &TraceMetrics) {
    let count = batch.len() as u64;
    // The client has told of a failure already, where it is news.
    match exporter.export(batch).await {
        Ok(()) => metrics.exported.inc_by(count),
        Err(_) => metrics.dropped.inc_by(count),
    };
}

/// The collector, over the same client as everything else. It is spoken to as
/// the configuration says; the variables of OpenTelemetry's own environment
/// add no header field.
struct Collector {
    client: Client,
    url: Url,
    authority: String,
    headers: HeaderMap,
    failing: AtomicBool,
}

impl Collector {
    fn new(config: &TraceConfig) -> Result<Self, TraceError> {
        let url: Url = config
            .endpoint
            .parse()
            .map_err(|_| TraceError("is no absolute URL".to_owned()))?;
        let trust = if url.scheme() == "https" {
            Trust::System(None)
        } else {
            Trust::Nobody
        };
        let tls = client_config(trust, &[b"h2", b"http/1.1"])
            .map_err(|error| TraceError(error.to_string()))?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(EXPORT_TIMEOUT)
            .pool_max_idle_per_host(1)
            .build()
            .map_err(|error| TraceError(error.without_url().to_string()))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            // Both were judged when the configuration was read.
            let (Ok(name), Ok(mut value)) = (
                HeaderName::try_from(name),
                HeaderValue::from_str(value.expose_secret()),
            ) else {
                return Err(TraceError("a header field cannot be sent".to_owned()));
            };
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or_default();
        Ok(Self {
            authority: format!("{host}:{port}"),
            client,
            url,
            headers,
            failing: AtomicBool::new(false),
        })
    }

    async fn post(&self, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
        let (head, body) = request.into_parts();
        let mut headers = self.headers.clone();
        if let Some(content_type) = head.headers.get(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, content_type.clone());
        }
        let reason = |error| failure::reason(&error, &self.authority, CONNECT_TIMEOUT);
        let sent = self.client.post(self.url.clone()).headers(headers);
        let mut response = sent.body(body).send().await.map_err(reason)?;
        let status = response.status();
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(reason)? {
            answer.extend_from_slice(&chunk);
            if answer.len() > ANSWER_BYTES_MAX {
                return Err("the answer is too long".to_owned());
            }
        }
        if !status.is_success() {
            return Err(format!("status {}", status.as_u16()));
        }
        Ok(Response::new(Bytes::from(answer)))
    }
}

#[async_trait]
impl HttpClient for Collector {
    /// Tells the log once when the collector takes no spans any more, and once
    /// when it does again.
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.post(request).await;
        let was_failing = self.failing.swap(answer.is_err(), Ordering::Relaxed);
        match &answer {
            Err(reason) if !was_failing => {
                tracing::warn!(
                    reason,
                    "the collector takes no spans; they are dropped until it does"
                );
            }
            Ok(_) if was_failing => tracing::info!("the collector takes spans again"),
            _ => {}
        }
        answer.map_err(Into::into)
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector")
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}
