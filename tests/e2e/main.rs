//! The built program, tried from outside: over sockets, through its files, by
//! signals. One file per promise.

mod harness;

/// What a user sees first: commands, exit codes, refusals to start.
mod cli;
/// Kills at random moments under load: every acknowledged event is delivered.
mod crash;
/// What `explain` says of a captured request is what the service does with it.
mod explain;
/// Acceptance and refusal, duplicates, and what the admin listener tells.
mod line;
/// The printed schema, and a second opinion on what it says.
mod schema;
/// Stops: drained, exit 0, nothing lost.
mod shutdown;
