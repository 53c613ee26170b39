//! The listeners, tested over real sockets.

mod access;
mod admin;
mod api;
mod archive;
mod connections;
mod harness;
mod http1;
mod http2;
mod reuse;
mod signed_body;
mod stop;
mod unread;
mod watching;
