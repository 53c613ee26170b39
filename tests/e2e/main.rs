//! The built program, tried from outside: over sockets, through its files, by
//! signals. One file per promise.

mod harness;
mod proxy;

/// What a user sees first: commands, exit codes, refusals to start.
mod cli;
/// Kills at random moments under load: every acknowledged event is delivered.
mod crash;
/// Acceptance and refusal, duplicates, and what the admin listener tells.
mod line;
/// nginx and HAProxy in front, as `config/` sets them up.
mod proxies;
/// Stops: drained, exit 0, nothing lost.
mod shutdown;
