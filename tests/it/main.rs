//! The guarantees of Keyward, held at its boundary: the real binary between a raw client and a raw
//! upstream, one file for each guarantee.
//!
//! Never here: knowledge of the inside, or a sleep in place of a condition.

mod harness;

mod access_log;
mod admin;
mod architecture;
mod attacks;
mod auth;
mod browser;
mod check;
mod cli;
mod closing;
mod core_dumps;
mod demo;
mod doctor;
mod floods;
mod generations;
mod grpc;
mod guessing;
mod headers;
mod http2;
mod init;
mod key_memory;
mod keys;
mod limits;
mod memory;
mod pace;
mod packaging;
mod policy;
mod proxy_protocol;
mod proxy_protocol_out;
mod rates;
mod readme;
mod redaction;
mod reload;
mod rotation;
mod scopes;
mod services;
mod shutdown;
mod streaming;
mod systemd;
mod takeover;
mod tls;
mod upgrade;
mod upstream;
mod upstream_address;
mod upstream_balance;
mod upstream_ejection;
mod upstream_faults;
mod upstream_health;
mod upstream_http2;
mod upstream_limits;
mod upstream_tls;
mod usage;
