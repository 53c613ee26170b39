//! The ceiling: a bare axum endpoint that only checks the signature and parses.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::post;
use bytes::Bytes;
use ims_receiver::clock::{Clock as _, SystemClock};
use ims_receiver::event;
use ims_receiver::request::{KeptHead, RequestHead, SourceName};
use ims_receiver::signature::ims::{ImsConfig, ReusePolicy};
use ims_receiver::signature::{HeadVerdict, Scheme, SchemeConfig, VerifiedRequest};

use crate::service::{KEY, Service, URL};

/// The argument that makes this program the ceiling.
pub const ARGUMENT: &str = "ceiling";

/// Starts it in a process of its own, as the service is.
pub fn start() -> anyhow::Result<Service> {
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.arg(ARGUMENT).stdin(std::process::Stdio::null());
    Service::start(command)
}

/// Serves until it is killed.
pub fn serve() -> anyhow::Result<()> {
    let scheme = SchemeConfig::Ims(ImsConfig {
        keys: vec![KEY.into()],
        callback_urls: vec![URL.into()],
        public_origin: None,
        tolerance: Duration::from_secs(300),
        reuse: ReusePolicy::Note,
    });
    let scheme: Arc<dyn Scheme> = scheme.build()?;
    let name = SourceName::new("default")?;
    let router = Router::new()
        .route("/ims/callback", post(callback))
        .with_state((scheme, name));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        println!(r#"{{"message":"listening","ingest":"{address}"}}"#);
        axum::serve(listener, router).await.context("it serves")
    })
}

async fn callback(
    State((scheme, source)): State<(Arc<dyn Scheme>, SourceName)>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let head = RequestHead {
        uri: &uri,
        headers: &headers,
    };
    match scheme.check_head(&head, SystemClock.now()) {
        Ok(HeadVerdict::Authentic(verified)) => {
            let kept = KeptHead::from_head(&head, None);
            let event = event::parse(VerifiedRequest::new(source, verified, kept, body));
            (StatusCode::OK, event.event_type)
        }
        Ok(HeadVerdict::NeedsBody(_)) | Err(_) => (StatusCode::UNAUTHORIZED, String::new()),
    }
}
