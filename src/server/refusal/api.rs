//! `GET /api/refusals`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

use super::Refusal;
use super::list::{ENTRIES_MAX, RefusalView, Refusals};

/// As many as are shown where nobody asks for more.
const LIMIT: usize = 100;

/// The answer.
#[derive(Debug, Serialize)]
struct RefusalsView {
    refusals: Vec<RefusalView>,
    totals: BTreeMap<&'static str, u64>,
}

/// The last refusals, the newest first; `limit`, `source` and `reason` narrow
/// them down.
pub(in crate::server) async fn refusals(
    State(list): State<Arc<Refusals>>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Response {
    let asked = match query {
        Ok(Query(pairs)) => Asked::read(&pairs),
        Err(_) => Err("the query cannot be read".to_owned()),
    };
    match asked {
        Ok(asked) => axum::Json(RefusalsView {
            refusals: list.list(asked.limit, &asked.sources, &asked.reasons),
            totals: list.totals(),
        })
        .into_response(),
        Err(detail) => bad_request(&detail),
    }
}

struct Asked {
    limit: usize,
    sources: Vec<String>,
    reasons: Vec<String>,
}

impl Asked {
    /// # Errors
    /// Which parameter is wrong, and what is allowed.
    fn read(pairs: &[(String, String)]) -> Result<Self, String> {
        let mut asked = Self {
            limit: LIMIT,
            sources: Vec::new(),
            reasons: Vec::new(),
        };
        for (name, value) in pairs {
            let values = value.split(',').map(str::trim).map(str::to_owned);
            let mut values = values.filter(|value| !value.is_empty());
            match name.as_str() {
                "limit" => {
                    let limit = value.parse().ok();
                    asked.limit = limit
                        .filter(|limit| (1..=ENTRIES_MAX).contains(limit))
                        .ok_or_else(|| format!("`limit` is a number from 1 to {ENTRIES_MAX}"))?;
                }
                "source" => asked.sources.extend(values),
                "reason" => {
                    let known = |value: &String| Refusal::REASONS.contains(&value.as_str());
                    if !values.all(|value| {
                        let is_known = known(&value);
                        asked.reasons.push(value);
                        is_known
                    }) {
                        let reasons = Refusal::REASONS.join(", ");
                        return Err(format!("`reason` is one of {reasons}"));
                    }
                }
                _ => {
                    return Err(
                        "the parameters are `limit`, `source` and `reason`, and no other"
                            .to_owned(),
                    );
                }
            }
        }
        Ok(asked)
    }
}

fn bad_request(detail: &str) -> Response {
    let status = StatusCode::BAD_REQUEST;
    let problem = json!({
        "type": "about:blank",
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": detail,
    });
    let kind = [(CONTENT_TYPE, "application/problem+json")];
    (status, kind, problem.to_string()).into_response()
}
