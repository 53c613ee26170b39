//! The listeners, tested over real sockets.

mod admin;
mod connections;
mod harness;
mod http1;
mod http2;
mod reuse;
mod signed_body;
mod stop;
mod unread;
