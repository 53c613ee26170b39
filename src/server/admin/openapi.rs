//! The routes of the API, and their description put together from the code.

use std::sync::Arc;

use axum::Router;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response as AxumResponse};
use axum::routing::get;
use bytes::Bytes;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use super::query::{Nothing, Query};
use super::views::{EventView, Problem};
use super::{events, export, handlers, import, redeliver, refusals, stats, tail};

/// What is said of the API as a whole.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "ims-receiver admin API",
        description = "Find any event, see what became of it, send it again. Every error is problem+json (RFC 9457). Where admin.token is set, every request carries it as a bearer token; where it is not, only local hosts are served.",
    ),
    components(schemas(EventView, Problem)),
    modifiers(&Common),
    security(("token" = [])),
    tags(
        (name = "events", description = "Events: search, look at, send again, move"),
        (name = "handlers", description = "Handlers: what waits for them, holding them back"),
        (name = "service", description = "The service itself"),
    ),
)]
struct Description;

/// What every operation has in common.
struct Common;

impl Modify for Common {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(token));
    }
}

/// The endpoints of the API, each under the path that its description names.
pub(super) fn routes() -> Router<Arc<AdminState>> {
    let (router, api) = OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(events::list))
        .routes(routes!(events::show))
        .routes(routes!(events::body))
        .routes(routes!(redeliver::one))
        .routes(routes!(redeliver::many))
        .routes(routes!(handlers::list))
        .routes(routes!(handlers::pause))
        .routes(routes!(handlers::resume))
        .routes(routes!(handlers::discard))
        .routes(routes!(refusals::list))
        .routes(routes!(stats::stats))
        .routes(routes!(tail::tail))
        .routes(routes!(export::export))
        .routes(routes!(import::import))
        .split_for_parts();
    let text = Bytes::from(text(api));
    router.route(
        "/openapi.json",
        get(move |_: Query<Nothing>| std::future::ready(answer(text.clone()))),
    )
}

fn answer(text: Bytes) -> AxumResponse {
    let mut answer = text.into_response();
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, json);
    answer
}

/// The description as JSON, with the answers that every operation may give.
fn text(api: utoipa::openapi::OpenApi) -> String {
    let mut api = serde_json::to_value(api).unwrap_or_default();
    let problem = |description: &str| {
        serde_json::json!({
            "description": description,
            "content": {"application/problem+json": {
                "schema": {"$ref": "#/components/schemas/Problem"},
            }},
        })
    };
    let every = [
        ("401", "The token is missing or wrong"),
        (
            "403",
            "The host is not local where there is no token, or the request comes from a page of another origin",
        ),
        ("429", "Too many wrong tokens"),
        (
            "503",
            "The service is not ready, the store is not available, or too many of these are at work",
        ),
    ];
    let changes = [
        ("408", "The body did not come in time"),
        ("413", "The body is too large"),
        ("415", "The body is not announced as JSON"),
    ];
    let paths = api["paths"].as_object_mut().into_iter().flatten();
    for (_, path) in paths {
        for (method, operation) in path.as_object_mut().into_iter().flatten() {
            let Some(responses) = operation["responses"].as_object_mut() else {
                continue;
            };
            let more = changes.iter().filter(|_| method == "post");
            for (status, description) in every.iter().chain(more) {
                responses
                    .entry(*status)
                    .or_insert_with(|| problem(description));
            }
        }
    }
    api.to_string()
}
