//! What pages are made of beside their HTML: it is in the program, and browsers keep it.
//!
//! Never here: anything of another site.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use crate::admin::refusal::Refusal;

/// What its address names does not change.
const KEPT: &str = "public, max-age=31536000, immutable";

/// A file.
pub(super) struct Asset {
    name: &'static str,
    content_type: &'static str,
    text: &'static str,
    address: LazyLock<String>,
}

macro_rules! asset {
    ($name:literal, $content_type:literal) => {{
        const TEXT: &str = include_str!(concat!("assets/", $name));
        Asset {
            name: $name,
            content_type: $content_type,
            text: TEXT,
            // A new text has a new address, so that nobody sees an old one.
            address: LazyLock::new(|| {
                format!("/assets/{}?v={:08x}", $name, crc32fast::hash(TEXT.as_bytes()))
            }),
        }
    }};
}

pub(super) static STYLE: Asset = asset!("style.css", "text/css; charset=utf-8");
pub(super) static COPY: Asset = asset!("copy.js", "text/javascript; charset=utf-8");
pub(super) static ICON: Asset = asset!("icon.svg", "image/svg+xml");

impl Asset {
    /// Where it is, without the address of the server.
    pub(super) fn address(&self) -> &str {
        &self.address
    }
}

/// Sends one.
pub(super) async fn send(Path(name): Path<String>) -> Response {
    match [&STYLE, &COPY, &ICON].into_iter().find(|asset| asset.name == name) {
        Some(asset) => {
            let fields = [(CONTENT_TYPE, asset.content_type), (CACHE_CONTROL, KEPT)];
            (fields, asset.text).into_response()
        }
        None => Refusal::NotFound.into_response(),
    }
}
