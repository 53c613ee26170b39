//! The listeners, tested over real sockets.

mod harness;
mod http1;
