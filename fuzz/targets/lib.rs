//! What the fuzz targets hold: each takes any bytes and panics where Keyward does not keep its word.
//!
//! `fuzz_targets/` feeds them from libFuzzer, `tests/fuzz.rs` from the committed corpora.

pub mod config;
pub mod credentials;
pub mod forwarding;
pub mod headers;
pub mod http1;
pub mod keys_file;
pub mod paths;
pub mod proxy_protocol;
pub mod redaction;

pub mod reading;
pub mod worker;
