//! The web page of the admin listener.
//!
//! Everything is made on the server, works without a script, and asks nobody
//! else for anything: the policy that goes with every page forbids it. What a
//! page shows is escaped by the templates, since bodies are hostile input.

mod again;
mod assets;
mod attention;
mod body;
mod chart;
mod door;
mod event;
mod events;
mod layout;
mod model;
mod overview;
mod refusals;
pub(super) mod session;
mod subject;
mod units;
