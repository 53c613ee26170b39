//! The two listeners: callbacks on the public one, administration on its own.
//!
//! [`accept`] is the loop both run on, with its limits and deadlines;
//! [`callback`] and [`admin`] are what they answer; `error` alone knows
//! which status an error of ours becomes.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;

pub mod accept;
mod activity;
pub mod admin;
pub mod auth;
mod body;
pub mod callback;
mod connection;
mod detached;
mod error;
pub mod explain;
mod frames;
mod head;
pub mod health;
mod io;
mod judge;
mod messages;
pub mod metrics;
mod page;
mod peer;
mod refusal;
mod registry;
mod service;
#[cfg(test)]
mod tests;
pub mod thresholds;

pub use accept::{ConnectionLimits, Endpoint, run};
pub use activity::{Activity, Answered};
pub use admin::{Admin, AdminMetrics, AdminParts, HandlerInfo, Lanes, SourceInfo};
pub use callback::Callback;
pub use connection::Connection;
pub use health::{Readiness, Unready};
pub use metrics::ServerMetrics;
pub use peer::TrustedProxies;
pub use refusal::{RefusalView, Refusals};

/// The public listener.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// GET and HEAD on this path answer 200 when ready, else 503.
    pub health_path: String,
    /// The largest body of one request, in bytes.
    pub body_bytes_max: usize,
    /// The bodies of all requests together, in bytes, counted as they arrive.
    pub body_bytes_in_flight_max: usize,
    /// From the end of a request's head to the answer.
    pub ack_deadline: Duration,
    /// From the accept, or the first byte of a later request, to the end of the head.
    pub head_deadline: Duration,
    /// How long an idle connection is kept.
    pub keep_alive: Duration,
    /// Connections at the same time.
    pub connections_max: usize,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How long a stop goes on accepting at least.
    pub shutdown_delay: Duration,
}

/// The admin listener.
#[derive(Debug, Clone)]
pub struct AdminConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Opens everything.
    pub token: Option<SecretString>,
    /// Opens `/metrics` and nothing else.
    pub metrics_token: Option<SecretString>,
}
