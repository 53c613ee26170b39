//! The section of traces.

use super::{Resolver, forward, net};
use crate::settings::raw::RawTelemetry;
use crate::settings::secrets;
use crate::trace::TraceConfig;

/// Where OTLP over HTTP takes traces, below a collector's URL.
const SIGNAL_PATH: &str = "/v1/traces";

/// The traces that were asked for; the inner `None` where they were not.
pub(super) fn telemetry(r: &mut Resolver<'_>, raw: RawTelemetry) -> Option<Option<TraceConfig>> {
    let key = "telemetry.otlp_headers";
    if raw.otlp_headers.is_some() && raw.otlp_headers_file.is_some() {
        r.both(key);
    }
    let has_headers = raw.otlp_headers.is_some() || raw.otlp_headers_file.is_some();
    let headers = match (raw.otlp_headers, raw.otlp_headers_file) {
        (Some(headers), _) => Some(headers.into_iter().collect()),
        (None, Some(file)) => r.secret_file(key, &file, secrets::read_headers),
        (None, None) => Some(Vec::new()),
    };
    let headers = headers.and_then(|headers| forward::checked_headers(r, key, headers));
    let Some(endpoint) = raw.otlp_endpoint else {
        let wrong = r.is_written("telemetry.otlp_endpoint");
        if has_headers && !wrong {
            r.warn(
                key,
                "stands there without telemetry.otlp_endpoint, so no traces are sent",
                r#"write otlp_endpoint = "http://collector:4318""#,
            );
        }
        return (headers.is_some() && !wrong).then_some(None);
    };
    let endpoint = endpoint_url(r, &endpoint);
    Some(Some(TraceConfig {
        endpoint: endpoint?,
        headers: headers?,
        sample_ratio: raw.sample_ratio,
        service_name: raw.service_name,
    }))
}

/// The URL with the path of the signal, which is added where it is not there.
fn endpoint_url(r: &mut Resolver<'_>, text: &str) -> Option<String> {
    let key = "telemetry.otlp_endpoint";
    let hint =
        r#"write the base URL of a collector's OTLP/HTTP port, such as "http://collector:4318""#;
    let Some(mut url) = net::absolute_http(text) else {
        r.problem(key, "is no absolute http or https URL", hint);
        return None;
    };
    if !url.username().is_empty() || url.password().is_some() {
        r.problem(
            key,
            "holds a user or a password",
            "write them into otlp_headers, as Authorization",
        );
        return None;
    }
    if url.query().is_some() || url.fragment().is_some() {
        r.problem(key, "has a query or a fragment", hint);
        return None;
    }
    let path = url.path().trim_end_matches('/').to_owned();
    if !path.ends_with(SIGNAL_PATH) {
        url.set_path(&format!("{path}{SIGNAL_PATH}"));
    }
    Some(url.into())
}
