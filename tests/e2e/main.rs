//! The built program, tried from outside: over sockets, through its files, by
//! signals. One file per promise.

mod collector;
mod destination;
mod harness;
/// The queue service that IMS writes into, played on loopback.
mod mns_emulator;
mod proxy;
mod small_disk;

/// The admin API: watch, hold back, send again, move.
mod api;
/// Bad bodies, framings, heads and key files: a clear answer, nothing lost.
mod bad_input;
/// What a user sees first: commands, exit codes, refusals to start.
mod cli;
/// One event, however often it comes and by whichever source.
mod copies;
/// Kills at random moments under load: every acknowledged event is delivered.
mod crash;
/// Full disks, and stores that cannot be used as they are.
mod disk;
/// What `explain` says of a captured request is what the service does with it.
mod explain;
/// Destinations that are dead, slow, gone, elsewhere or behind TLS.
mod forward;
/// Clients that do not wait for their answer.
mod hang_up;
/// Files of keys, and which key it was.
mod keys;
/// Acceptance and refusal, duplicates, and what the admin listener tells.
mod line;
/// The series of the contract, and what monitoring builds on.
mod metrics;
/// Events from a queue: stored before they are deleted, whatever goes wrong.
mod mns;
/// Where the key of a queue comes from, and keys that expire.
mod mns_credentials;
/// The official SDKs against the same queue service, and our program after them.
mod mns_sdks;
/// Queues that cannot be read or emptied: said once, and mended by themselves.
mod mns_trouble;
/// Exports and imports: what is refused, what an interrupt leaves, spoilt rows.
mod moving;
/// What an operator does at a terminal: find events, send them again, look.
mod operator;
/// The web page in a browser.
mod page;
/// nginx and HAProxy in front, as `config/` sets them up.
mod proxies;
/// What is said about those who were turned away, and signatures used twice.
mod refusals;
/// Twenty restarts behind an inherited socket, by the sender's real rule.
mod restart;
/// Keys that change while the service runs.
mod rotation;
/// The printed schema, and a second opinion on what it says.
mod schema;
/// The description of the admin API held against the running service.
mod schemathesis;
/// Commands: what they get, how they end, and what they leave behind.
mod shell;
/// Stops: drained, exit 0, nothing lost.
mod shutdown;
/// The store's file: checked, copied under load, made smaller, kept in bounds.
mod store;
/// Thousands of strangers, silent or forging, beside genuine senders.
mod strangers;
/// One trace per event, and a collector that nobody depends on.
mod traces;
