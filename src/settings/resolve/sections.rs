//! The sections that exist once.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use super::quantity::{AGE, DAY, HOUR, written};
use super::{Range, Resolver};
use crate::dispatch::DispatchConfig;
use crate::server::{AdminConfig, ServerConfig};
use crate::settings::raw::{RawAdmin, RawDispatch, RawServer, RawStore};
use crate::settings::{StoreSettings, check_admin_exposure};

/// How long IMS waits for an answer before it counts the try as failed.
const SENDER_PATIENCE: Duration = Duration::from_secs(3);

pub(super) fn server(r: &mut Resolver<'_>, raw: RawServer) -> Option<ServerConfig> {
    let listen = r.address("server.listen", &raw.listen);
    let health_path = r.path("server.health_path", raw.health_path);
    let ack_deadline = ack_deadline(r, &raw.ack_deadline);
    let head_deadline = r.duration(
        "server.head_deadline",
        &raw.head_deadline,
        Range::up_to(HOUR),
    );
    let keep_alive = r.duration("server.keep_alive", &raw.keep_alive, Range::up_to(DAY));
    let shutdown_delay = r.duration(
        "server.shutdown_delay",
        &raw.shutdown_delay,
        Range::zero_to(HOUR),
    );
    let trusted_proxies = r.networks("server.trusted_proxies", &raw.trusted_proxies);
    let trusts_all =
        |networks: &Vec<ipnet::IpNet>| networks.iter().any(|net| net.prefix_len() == 0);
    if trusted_proxies.as_ref().is_some_and(trusts_all) {
        r.warn(
            "server.trusted_proxies",
            "trusts every address, so that everybody can claim to be anybody",
            "name the proxies' own addresses",
        );
    }
    if raw.body_bytes_max > raw.body_bytes_in_flight_max {
        r.problem(
            "server.body_bytes_max",
            format!(
                "{} is more than server.body_bytes_in_flight_max ({}), so the largest bodies could never arrive",
                raw.body_bytes_max, raw.body_bytes_in_flight_max
            ),
            "lower the one or raise the other",
        );
    }
    Some(ServerConfig {
        listen: listen?,
        health_path: health_path?,
        body_bytes_max: raw.body_bytes_max,
        body_bytes_in_flight_max: raw.body_bytes_in_flight_max,
        ack_deadline: ack_deadline?,
        head_deadline: head_deadline?,
        keep_alive: keep_alive?,
        connections_max: raw.connections_max,
        trusted_proxies: trusted_proxies?,
        shutdown_delay: shutdown_delay?,
    })
}

fn ack_deadline(r: &mut Resolver<'_>, text: &str) -> Option<Duration> {
    let key = "server.ack_deadline";
    let deadline = r.duration(key, text, Range::up_to(AGE))?;
    if deadline < SENDER_PATIENCE {
        return Some(deadline);
    }
    r.problem(
        key,
        format!("\"{text}\" must stay below the 3 s after which IMS gives up"),
        r#"write "2s" or less"#,
    );
    None
}

pub(super) fn admin(r: &mut Resolver<'_>, raw: RawAdmin) -> Option<AdminConfig> {
    let listen = r.address("admin.listen", &raw.listen);
    let token = token(r, "admin.token", raw.token, raw.token_file);
    let metrics_token = token_of_metrics(r, raw.metrics_token, raw.metrics_token_file);
    let same =
        |other: &SecretString, token: &SecretString| other.expose_secret() == token.expose_secret();
    if let (Some(token), Some(other)) = (&token, &metrics_token)
        && same(other, token)
    {
        r.problem(
            "admin.metrics_token",
            "is the same as admin.token, so it would open everything",
            "make it another one",
        );
    }
    let config = AdminConfig {
        listen: listen?,
        token,
        metrics_token,
    };
    let token_is_wrong =
        config.token.is_none() && (r.is_written("admin.token") || r.is_written("admin.token_file"));
    if !token_is_wrong && let Err(problem) = check_admin_exposure(&config, config.listen) {
        r.problems.push(problem);
    }
    Some(config)
}

fn token_of_metrics(
    r: &mut Resolver<'_>,
    inline: Option<SecretString>,
    file: Option<std::path::PathBuf>,
) -> Option<SecretString> {
    token(r, "admin.metrics_token", inline, file)
}

/// A bearer token: it has to fit into a header field.
pub(super) fn token(
    r: &mut Resolver<'_>,
    key: &str,
    inline: Option<SecretString>,
    file: Option<std::path::PathBuf>,
) -> Option<SecretString> {
    let token = r.secret(key, inline, file)?;
    if token.expose_secret().bytes().all(|b| b.is_ascii_graphic()) {
        return Some(token);
    }
    r.problem(
        key,
        "holds something else than visible ASCII characters",
        "a header field can carry no others: make it another one",
    );
    None
}

pub(super) fn store(r: &mut Resolver<'_>, raw: RawStore) -> Option<StoreSettings> {
    let dedup_window = r.duration("store.dedup_window", &raw.dedup_window, Range::up_to(AGE));
    let retention = r.duration("store.retention", &raw.retention, Range::up_to(AGE));
    let retention_dead = r.duration(
        "store.retention_dead",
        &raw.retention_dead,
        Range::up_to(AGE),
    );
    if let (Some(window), Some(retention)) = (dedup_window, retention)
        && retention < window
    {
        r.problem(
            "store.retention",
            format!(
                "{} is below store.dedup_window ({}), whose events are still needed",
                written(retention),
                written(window)
            ),
            format!("write {} or more", written(window)),
        );
    }
    // SQLite takes these for something else than a file.
    let text = raw.path.to_string_lossy();
    if text.starts_with(':') || text.starts_with("file:") || raw.path.file_name().is_none() {
        r.problem(
            "store.path",
            format!("\"{text}\" names no file"),
            r#"write a path such as "data/events.db""#,
        );
        return None;
    }
    Some(StoreSettings {
        path: raw.path,
        dedup_window: dedup_window?,
        dedup_entries_max: raw.dedup_entries_max,
        retention: retention?,
        retention_dead: retention_dead?,
        retention_bytes: raw.retention_bytes,
        disk_free_min: raw.disk_free_min,
    })
}

pub(super) fn dispatch(r: &mut Resolver<'_>, raw: RawDispatch) -> Option<DispatchConfig> {
    let drain = r.duration("dispatch.drain", &raw.drain, Range::zero_to(HOUR));
    Some(DispatchConfig {
        queue_capacity: raw.queue_capacity,
        queue_bytes_max: raw.queue_bytes_max,
        drain: drain?,
    })
}

pub(super) fn check_listeners(r: &mut Resolver<'_>, server: &ServerConfig, admin: &AdminConfig) {
    if overlap(server.listen, admin.listen) {
        r.problem(
            "admin.listen",
            format!(
                "{} is taken by server.listen ({})",
                admin.listen, server.listen
            ),
            "give it another port, such as \"127.0.0.1:9090\"",
        );
    }
}

pub(super) fn check_bytes(r: &mut Resolver<'_>, server: &ServerConfig, dispatch: &DispatchConfig) {
    if dispatch.queue_bytes_max < server.body_bytes_max {
        r.warn(
            "dispatch.queue_bytes_max",
            format!(
                "{} is below server.body_bytes_max ({}), so the largest bodies take all of it and more",
                dispatch.queue_bytes_max, server.body_bytes_max
            ),
            "raise the one or lower the other",
        );
    }
}

/// Whether two listeners would want the same port of the same address. The
/// unspecified IPv6 address takes IPv4 as well, on most systems.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let takes = |a: IpAddr, b: IpAddr| a.is_unspecified() && (a.is_ipv6() || b.is_ipv4());
    let (first, second) = (a.ip().to_canonical(), b.ip().to_canonical());
    let meet = first == second || takes(first, second) || takes(second, first);
    a.port() != 0 && a.port() == b.port() && meet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_overlap_by_port_and_address() {
        for (a, b, expected) in [
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("0.0.0.0:80", "0.0.0.0:81", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80", true),
        ] {
            let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(overlap(a, b), expected, "{a} {b}");
            assert_eq!(overlap(b, a), expected, "{b} {a}");
        }
    }
}
