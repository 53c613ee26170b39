//! A collector that takes traces over OTLP/HTTP and keeps them.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1;
use prost::Message as _;
use tokio_util::sync::CancellationToken;

use crate::destination::free_port;
use crate::harness::wait_for;

/// A span as it came in, its ids in hexadecimal.
#[derive(Clone, Debug)]
pub struct Span {
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub name: String,
    pub kind: v1::span::SpanKind,
    pub began: u64,
    pub ended: u64,
    pub failed: bool,
    pub attributes: BTreeMap<String, String>,
}

impl Span {
    fn of(span: v1::Span) -> Self {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect();
        Self {
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            kind: span.kind(),
            name: span.name,
            began: span.start_time_unix_nano,
            ended: span.end_time_unix_nano,
            failed: span
                .status
                .is_some_and(|status| status.code() == v1::status::StatusCode::Error),
            attributes: texts(&span.attributes),
        }
    }

    pub fn attribute(&self, name: &str) -> &str {
        let value = self.attributes.get(name);
        value.unwrap_or_else(|| panic!("no {name} in {self:#?}"))
    }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |one: &KeyValue| match one.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        Value::BoolValue(flag) => Some(flag.to_string()),
        _ => None,
    };
    let pair = |one| Some((KeyValue::clone(one).key, text(one)?));
    attributes.iter().filter_map(pair).collect()
}

/// One request with spans.
#[derive(Clone)]
pub struct Batch {
    pub path: String,
    pub headers: HeaderMap,
    pub raw: Bytes,
    pub resource: BTreeMap<String, String>,
    pub spans: Vec<Span>,
}

/// A running collector; dropping it closes its port.
pub struct Collector {
    pub address: SocketAddr,
    batches: Arc<Mutex<Vec<Batch>>>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    pub fn start() -> Self {
        Self::on(free_port())
    }

    pub fn on(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("it is bound");
        listener.set_nonblocking(true).expect("a socket");
        let batches: Arc<Mutex<Vec<Batch>>> = Arc::default();
        let kept = Arc::clone(&batches);
        let take = move |uri: axum::http::Uri, headers: HeaderMap, raw: Bytes| {
            let batch = decoded(uri.path(), headers, raw);
            kept.lock().expect("plain push").push(batch);
            std::future::ready(StatusCode::OK)
        };
        let router = axum::Router::new().fallback(take);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(stopped.run_until_cancelled(async {
                let tcp = tokio::net::TcpListener::from_std(listener).expect("a listener");
                axum::serve(tcp, router).await.expect("it serves");
            }));
        });
        Self {
            address,
            batches,
            stop,
            thread: Some(thread),
        }
    }

    pub fn batches(&self) -> Vec<Batch> {
        self.batches.lock().expect("plain read").clone()
    }

    pub fn spans(&self) -> Vec<Span> {
        let batches = self.batches();
        batches.into_iter().flat_map(|batch| batch.spans).collect()
    }

    /// The spans of an event, once there are so many of them; by their begin.
    pub fn of_event(&self, id: &str, count: usize) -> Vec<Span> {
        wait_for("the collector has the spans of the event", || {
            let mut spans = self.spans();
            spans.retain(|span| span.attribute("event_id") == id);
            spans.sort_by_key(|span| span.began);
            (spans.len() >= count).then_some(spans)
        })
    }
}

fn decoded(path: &str, headers: HeaderMap, raw: Bytes) -> Batch {
    let request = ExportTraceServiceRequest::decode(raw.clone()).expect("it is protobuf");
    let resource = request
        .resource_spans
        .first()
        .and_then(|spans| spans.resource.as_ref());
    Batch {
        path: path.to_owned(),
        headers,
        resource: resource.map_or_else(BTreeMap::new, |all| texts(&all.attributes)),
        spans: request
            .resource_spans
            .into_iter()
            .flat_map(|resource| resource.scope_spans)
            .flat_map(|scope| scope.spans)
            .map(Span::of)
            .collect(),
        raw,
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.expect("the collector does not panic");
            }
        }
    }
}
