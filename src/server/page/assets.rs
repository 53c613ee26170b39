//! What the pages load: one style sheet, one script, one icon, all in the
//! binary. Their addresses hold a hash of their content, so that they can be
//! cached for ever and are never stale.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::server::error::Rejection;

/// One file that pages load.
#[derive(Debug)]
pub(super) struct Asset {
    name: &'static str,
    media_type: &'static str,
    content: &'static str,
    hash: LazyLock<String>,
}

pub(super) static SHEET: Asset = Asset {
    name: "page.css",
    media_type: "text/css; charset=utf-8",
    content: include_str!("page.css"),
    hash: LazyLock::new(|| hash_of(include_str!("page.css"))),
};

pub(super) static SCRIPT: Asset = Asset {
    name: "page.js",
    media_type: "text/javascript; charset=utf-8",
    content: include_str!("page.js"),
    hash: LazyLock::new(|| hash_of(include_str!("page.js"))),
};

pub(super) static ICON: Asset = Asset {
    name: "icon.svg",
    media_type: "image/svg+xml",
    content: include_str!("icon.svg"),
    hash: LazyLock::new(|| hash_of(include_str!("icon.svg"))),
};

/// Long enough to tell two versions apart.
const HASH_BYTES: usize = 8;

fn hash_of(content: &str) -> String {
    let digest = Sha256::digest(content.as_bytes());
    digest
        .iter()
        .take(HASH_BYTES)
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

impl Asset {
    /// Where it is served.
    pub(super) fn path(&self) -> String {
        format!("/assets/{}/{}", *self.hash, self.name)
    }
}

/// One year; the address changes with the content.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// `GET /assets/{hash}/{name}`. Open to everybody: the sign-in page needs it,
/// and it is the same for all.
pub(super) async fn get(Path((hash, name)): Path<(String, String)>) -> Result<Response, Rejection> {
    let asset = [&SHEET, &SCRIPT, &ICON]
        .into_iter()
        .find(|asset| asset.name == name && *asset.hash == hash)
        .ok_or(Rejection::NotFound)?;
    let fields = [(CONTENT_TYPE, asset.media_type), (CACHE_CONTROL, FOR_EVER)];
    Ok((fields, asset.content).into_response())
}
