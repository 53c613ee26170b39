//! The last refusals, with what may be wrong with them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::AdminState;
use super::query::{self, Params, Query};
use super::views::{Problem, Word};
use crate::server::RefusalView;
use crate::server::error::Rejection;
use crate::server::refusal::{ENTRIES_MAX, Refusal};

/// As many as are shown where nobody asks for more.
const LIMIT: u32 = 100;

/// Which refusals.
#[derive(Debug, Default, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct RefusalParams {
    /// Refusals at the most; 100 where it is not given.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// The sources whose path they were sent to.
    #[param(rename = "source", style = Form, explode, required = false, value_type = Vec<Word>, max_items = 64)]
    sources: Vec<String>,
    /// Why they were turned away.
    #[param(rename = "reason", style = Form, explode, required = false, value_type = Vec<Word>, max_items = 64)]
    reasons: Vec<String>,
}

impl Params for RefusalParams {
    const NAMES: &'static [&'static str] = &["limit", "source", "reason"];

    fn take(&mut self, name: &str, value: String) -> Result<bool, Rejection> {
        match name {
            "limit" => {
                let most = u32::try_from(ENTRIES_MAX).unwrap_or(u32::MAX);
                let limit = query::number(name, &value, (1, most))?;
                query::set(&mut self.limit, name, limit)?;
            }
            "source" => query::add(&mut self.sources, name, &value)?,
            "reason" => {
                query::add(&mut self.reasons, name, &value)?;
                for reason in &self.reasons {
                    query::one_of(name, reason, &Refusal::REASONS, |reason| reason)?;
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// The last refusals.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Refusals)]
struct RefusalsView {
    /// The refusals, the newest first. The list is bounded and empty after a
    /// restart.
    refusals: Vec<RefusalView>,
    /// How many there were since the start, by reason.
    #[schema(value_type = std::collections::HashMap<String, u64>)]
    totals: BTreeMap<&'static str, u64>,
}

/// The last refusals, with what may be wrong with them.
#[utoipa::path(
    get,
    path = "/api/refusals",
    operation_id = "list_refusals",
    tag = "service",
    params(RefusalParams),
    responses(
        (status = 200, description = "The refusals", body = RefusalsView),
        (status = 400, description = "A parameter cannot be read", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn list(
    State(state): State<Arc<AdminState>>,
    Query(params): Query<RefusalParams>,
) -> axum::Json<impl Serialize> {
    let refusals = &state.parts.refusals;
    let limit = params.limit.unwrap_or(LIMIT) as usize;
    axum::Json(RefusalsView {
        refusals: refusals.list(limit, &params.sources, &params.reasons),
        totals: refusals.totals(),
    })
}
