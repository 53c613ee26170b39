//! `health`: asks the running service how it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use reqwest::Client;

use super::usage::UsageError;
use crate::handler::forward::failure;
use crate::handler::tls::{Trust, client_config};

/// The service answers within this, or it is not healthy.
const TIMEOUT: Duration = Duration::from_secs(5);

/// This much of the reasons is shown.
const ANSWER_BYTES_MAX: usize = 4 << 10;

/// Exit 0 if the running service is ready
#[derive(Debug, Clone, Args)]
pub struct HealthArgs {
    /// Ask only whether it answers at all
    #[arg(long)]
    pub live: bool,
}

/// A service that is not healthy: exit code 1.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// It does not answer.
    #[error("the service does not answer: {0}; is it running, with this configuration?")]
    Unreachable(String),
    /// It answers that it is not ready.
    #[error("the service is not ready (status {status}): {answer}")]
    NotReady {
        /// The status.
        status: u16,
        /// The reasons, as it gave them.
        answer: String,
    },
}

impl HealthArgs {
    /// Asks the admin listener at `listen`, the address of the configuration.
    /// Neither path needs a token, so none is sent.
    ///
    /// # Errors
    /// [`HealthError`] where it is not healthy; [`UsageError`] where `listen`
    /// names no port that could be asked.
    pub async fn run(self, listen: SocketAddr) -> anyhow::Result<ExitCode> {
        let address = reachable(listen)?;
        let path = if self.live { "/livez" } else { "/readyz" };
        let asking = ask(address, path);
        match tokio::time::timeout(TIMEOUT, asking).await {
            Ok(result) => result?,
            Err(_) => {
                let seconds = TIMEOUT.as_secs();
                let reason = format!("no answer within {seconds} s ({address})");
                return Err(HealthError::Unreachable(reason).into());
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Where the listener can be reached from this machine.
pub(super) fn reachable(listen: SocketAddr) -> Result<SocketAddr, UsageError> {
    if listen.port() == 0 {
        return Err(UsageError(
            "admin.listen has port 0, which is another port at every start; give it a fixed one"
                .to_owned(),
        ));
    }
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(SocketAddr::new(ip, listen.port()))
}

async fn ask(address: SocketAddr, path: &str) -> anyhow::Result<()> {
    let client = Client::builder()
        .tls_backend_preconfigured(client_config(Trust::Nobody, &[])?)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()?;
    let request = client.get(format!("http://{address}{path}"));
    let mut response = request.send().await.map_err(|error| {
        let reason = failure::reason(&error, &address.to_string(), TIMEOUT);
        HealthError::Unreachable(reason)
    })?;
    if response.status().is_success() {
        return Ok(());
    }
    let mut answer = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        answer.extend_from_slice(&chunk);
        if answer.len() >= ANSWER_BYTES_MAX {
            answer.truncate(ANSWER_BYTES_MAX);
            break;
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    let shown = answer
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c });
    Err(HealthError::NotReady {
        status: response.status().as_u16(),
        answer: shown.collect(),
    }
    .into())
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use axum::routing::get;
    use tokio::net::TcpListener;

    use super::*;

    async fn admin(ready: StatusCode) -> SocketAddr {
        let router = axum::Router::new()
            .route("/livez", get(|| async { "ok" }))
            .route(
                "/readyz",
                get(move || async move { (ready, "store: disk\nfull") }),
            );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    #[tokio::test]
    async fn ready_and_live_are_asked_apart() {
        let ready = admin(StatusCode::OK).await;
        let broken = admin(StatusCode::SERVICE_UNAVAILABLE).await;
        assert!(HealthArgs { live: false }.run(ready).await.is_ok());
        assert!(HealthArgs { live: true }.run(broken).await.is_ok());
        let error = HealthArgs { live: false }.run(broken).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the service is not ready (status 503): store: disk full"
        );
    }

    #[tokio::test]
    async fn a_listener_on_all_addresses_is_asked_on_loopback() {
        let port = admin(StatusCode::OK).await.port();
        let everywhere = SocketAddr::from(([0, 0, 0, 0], port));
        assert!(HealthArgs { live: false }.run(everywhere).await.is_ok());
        let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 9090));
        assert_eq!(reachable(everywhere).unwrap().to_string(), "[::1]:9090");
    }

    #[tokio::test]
    async fn a_service_that_is_not_there_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = HealthArgs { live: true }.run(address).await.unwrap_err();
        let expected = format!("connection refused ({address})");
        assert!(error.to_string().contains(&expected), "{error}");
        let error = HealthArgs { live: true }
            .run(SocketAddr::from(([127, 0, 0, 1], 0)))
            .await
            .unwrap_err();
        assert!(error.downcast_ref::<UsageError>().is_some());
    }
}
