//! Receives the callback events of Alibaba Cloud Intelligent Media Services
//! (IMS), has each on disk before it answers, and hands it on for certain.

pub mod clock;
pub mod escape;
pub mod request;
pub mod throttle;

pub mod signature;

pub mod event;

pub mod delivery;
pub mod filter;

pub mod handler;
pub mod store;
pub mod trace;

pub mod dispatch;
pub mod ingest;

pub mod mns;
pub mod server;

pub mod app;
pub mod cli;
pub mod key_files;
pub mod lifecycle;
pub mod sender;
pub mod settings;
pub mod telemetry;
