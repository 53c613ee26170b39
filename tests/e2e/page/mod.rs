//! The web page, in a browser as its readers have it: found, opened, sent
//! again, held back, watched; inert whatever a body holds.

mod browser;
/// Who is let in, and which forms are taken.
mod doors;
/// Every page, wide and narrow, light and dark: quiet, and within its window.
mod looks;
/// What people do with it.
mod work;

use std::net::SocketAddr;

use crate::harness::Service;

/// An address of the admin listener.
fn url(service: &Service, path: &str) -> String {
    address(service.admin, path)
}

fn address(admin: SocketAddr, path: &str) -> String {
    format!("http://localhost:{}{path}", admin.port())
}
