//! What was written, typed but not yet understood: texts are still texts.
//!
//! These are read from a tree that fits the schema and has its defaults filled
//! in. What is optional here has no default; `kind` and `scheme` may be gone
//! as well, where what stood there was wrong and is reported already.

use std::collections::BTreeMap;
use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
pub(super) struct RawSettings {
    pub(super) server: RawServer,
    pub(super) admin: RawAdmin,
    pub(super) store: RawStore,
    pub(super) dispatch: RawDispatch,
    pub(super) telemetry: RawTelemetry,
    pub(super) sources: BTreeMap<String, RawSource>,
    pub(super) handlers: BTreeMap<String, RawHandler>,
}

#[derive(Deserialize)]
pub(super) struct RawServer {
    pub(super) listen: String,
    pub(super) health_path: String,
    pub(super) body_bytes_max: usize,
    pub(super) body_bytes_in_flight_max: usize,
    pub(super) ack_deadline: String,
    pub(super) head_deadline: String,
    pub(super) keep_alive: String,
    pub(super) connections_max: usize,
    pub(super) trusted_proxies: Vec<String>,
    pub(super) shutdown_delay: String,
}

#[derive(Deserialize)]
pub(super) struct RawAdmin {
    pub(super) listen: String,
    pub(super) token: Option<SecretString>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) metrics_token: Option<SecretString>,
    pub(super) metrics_token_file: Option<PathBuf>,
}

#[derive(Deserialize)]
pub(super) struct RawStore {
    pub(super) path: PathBuf,
    pub(super) dedup_window: String,
    pub(super) dedup_entries_max: u32,
    pub(super) retention: String,
    pub(super) retention_dead: String,
    pub(super) retention_bytes: Option<u64>,
    pub(super) disk_free_min: u64,
}

#[derive(Deserialize)]
pub(super) struct RawDispatch {
    pub(super) queue_capacity: usize,
    pub(super) queue_bytes_max: usize,
    pub(super) drain: String,
}

#[derive(Deserialize)]
pub(super) struct RawTelemetry {
    pub(super) otlp_endpoint: Option<String>,
    pub(super) otlp_headers: Option<BTreeMap<String, SecretString>>,
    pub(super) otlp_headers_file: Option<PathBuf>,
    pub(super) sample_ratio: f64,
    pub(super) service_name: String,
}

#[derive(Deserialize)]
pub(super) struct RawSource {
    pub(super) kind: Option<String>,
    pub(super) path: Option<String>,
    #[serde(default)]
    pub(super) callback_urls: Vec<String>,
    pub(super) public_origin: Option<String>,
    pub(super) auth: Option<RawAuth>,
    pub(super) allow_from: Option<Vec<String>>,
    pub(super) endpoint: Option<String>,
    pub(super) queue: Option<String>,
    pub(super) wait: Option<String>,
    pub(super) batch: Option<usize>,
    pub(super) pollers: Option<usize>,
    pub(super) visibility_timeout: Option<String>,
    pub(super) max_receives: Option<u32>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) credentials: Option<RawCredentials>,
}

#[derive(Deserialize)]
pub(super) struct RawCredentials {
    pub(super) access_key_id: Option<SecretString>,
    pub(super) access_key_id_file: Option<PathBuf>,
    pub(super) access_key_secret: Option<SecretString>,
    pub(super) access_key_secret_file: Option<PathBuf>,
    pub(super) security_token: Option<SecretString>,
    pub(super) security_token_file: Option<PathBuf>,
}

#[derive(Deserialize)]
pub(super) struct RawAuth {
    pub(super) scheme: Option<RawScheme>,
    pub(super) keys: Option<Vec<SecretString>>,
    pub(super) keys_file: Option<PathBuf>,
    pub(super) tolerance: Option<String>,
    pub(super) reuse: Option<RawReuse>,
    pub(super) header: Option<String>,
    pub(super) prefix: Option<String>,
    pub(super) encoding: Option<RawEncoding>,
    pub(super) timestamp_header: Option<String>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawEncoding {
    Hex,
    Base64,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawReuse {
    Note,
    Refuse,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawScheme {
    Ims,
    HmacSha256,
    None,
}

/// A handler's keys, the common ones split from those of its kind: serde's
/// `flatten` would lose the types of both.
#[derive(Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct RawHandler {
    pub(super) common: RawCommon,
    pub(super) kind: Option<RawKind>,
}

#[derive(Deserialize)]
pub(super) struct RawCommon {
    pub(super) events: Option<Vec<String>>,
    pub(super) sources: Option<Vec<String>>,
    pub(super) outcome: Option<Vec<crate::event::Outcome>>,
    pub(super) timeout: Option<String>,
    pub(super) concurrency: Option<usize>,
    pub(super) retry: RawRetry,
}

#[derive(Deserialize)]
pub(super) struct RawRetry {
    pub(super) initial: String,
    pub(super) max: String,
    pub(super) max_age: String,
    pub(super) attempts: Option<u32>,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum RawKind {
    Log(RawLog),
    Forward(RawForward),
    Shell(RawShell),
}

#[derive(Deserialize)]
pub(super) struct RawLog {
    pub(super) output: String,
    pub(super) body: bool,
    pub(super) body_bytes_max: Option<usize>,
}

#[derive(Deserialize)]
pub(super) struct RawForward {
    pub(super) url: Option<SecretString>,
    pub(super) url_file: Option<PathBuf>,
    pub(super) bearer_token: Option<SecretString>,
    pub(super) bearer_token_file: Option<PathBuf>,
    pub(super) headers: Option<BTreeMap<String, SecretString>>,
    pub(super) headers_file: Option<PathBuf>,
    pub(super) ca_file: Option<PathBuf>,
}

#[derive(Deserialize)]
pub(super) struct RawShell {
    pub(super) command: Option<RawCommand>,
    pub(super) env: Option<BTreeMap<String, SecretString>>,
    pub(super) env_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum RawCommand {
    Argv(Vec<String>),
    Script(String),
}

impl TryFrom<Value> for RawHandler {
    type Error = serde_json::Error;

    fn try_from(table: Value) -> Result<Self, Self::Error> {
        let common = RawCommon::deserialize(&table)?;
        let kind = match table.get("kind") {
            Some(_) => Some(RawKind::deserialize(&table)?),
            None => None,
        };
        Ok(Self { common, kind })
    }
}
