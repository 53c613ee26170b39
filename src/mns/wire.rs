//! How requests go out: the HTTP client, and the parts of a request that have
//! to be written in one way and no other.

use std::time::Duration;

use axum::http::header::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::client::ClientError;
use super::xml;
use crate::handler::tls::{Trust, client_config};

/// Everything but what RFC 3986 leaves as it is.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// How long a connection may go without a sign of life.
const LIVENESS_TIMEOUT: Duration = Duration::from_secs(15);

/// MNS closes idle connections; ours are given up earlier.
const IDLE_TIMEOUT: Duration = Duration::from_secs(45);

/// A client that follows no redirect, asks no proxy and repeats nothing but
/// what a closed connection never took.
pub(super) fn http(
    trust: Trust<'_>,
    connect_timeout: Duration,
) -> Result<reqwest::Client, ClientError> {
    let tls = client_config(trust, &[b"http/1.1"]).map_err(ClientError::CaFile)?;
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(connect_timeout)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .tcp_keepalive(LIVENESS_TIMEOUT)
        .tcp_user_timeout(LIVENESS_TIMEOUT)
        .build();
    client.map_err(ClientError::Http)
}

pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

pub(super) fn handles_document(handles: &[&str]) -> String {
    let handles: String = handles
        .iter()
        .map(|handle| format!("<ReceiptHandle>{}</ReceiptHandle>", xml::escaped(handle)))
        .collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<ReceiptHandles xmlns=\"http://mns.aliyuncs.com/doc/v1/\">{handles}</ReceiptHandles>"
    )
}

/// A value that no log shows. One that no header can carry is left out, and
/// MNS then says what is missing.
pub(super) fn put_secret(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(mut value) = HeaderValue::from_str(value) {
        value.set_sensitive(true);
        headers.insert(name, value);
    }
}

pub(super) fn parse_date(value: &HeaderValue) -> Option<Timestamp> {
    let date = httpdate::parse_http_date(value.to_str().ok()?).ok()?;
    Timestamp::try_from(date).ok()
}
