//! From the mirror to the [`Config`]: pure, and every fault is gathered.
//!
//! Each part returns something usable even when it is faulty, so that the parts behind it are checked too;
//! with a fault anywhere, what they return goes nowhere.
//!
//! Never here: reading files, or how faults are shown.

mod admin;
mod auth;
mod requests;
mod roles;
mod routes;
mod server;
mod tls;
mod upstreams;

use std::path::Path;
use std::sync::Arc;

use super::check::Check;
use super::interpolate::{Problem, ProblemKind, variable};
use super::raw::{self, Field, Section, Table};
use super::{
    AccessLog, Audit, Config, KeyFacts, Keys, Log, LogFormat, Metrics, OnOverflow, Tls,
    UpstreamTls, UsageFile, limits,
};
use crate::diagnostics::Report;
use crate::keys::format::{Pepper, Prefix};
use crate::redact::Secret;

/// Turns `root`, read from the file at `path`, into a configuration; without one there is a fault, and what
/// is known of the keys all the same is given back.
pub(super) fn validate(
    check: &mut Check<'_>,
    root: Table<raw::Root>,
    path: &Path,
) -> Result<Config, Option<Box<KeyFacts>>> {
    let root = check.fields("", root);
    let root_faults = check.faults();
    let realm = realm(check, root.realm);
    let server = server::server(check, root.server);
    let before_keys = check.faults();
    let keys = keys(check, root.keys);
    let key_faults = check.faults() - before_keys;
    let auth = auth::auth(check, root.auth);
    let identity = auth::identity(check, root.identity, &auth.key_sources);
    let before_roles = check.faults();
    let roles = roles::roles(check, root.roles);
    let role_faults = check.faults() - before_roles;
    let upstreams = upstreams::upstreams(check, root.upstreams);
    let has_client_ca = server.tls.as_ref().is_some_and(|tls| tls.clients.is_some());
    let around = routes::Around { roles: &roles, upstreams: &upstreams, has_client_ca };
    let routes = routes::routes(check, root.routes, &around);
    let mut files = vec![path];
    files.extend(keys.iter().map(|keys| keys.store.as_path()));
    files.extend(server.tls.iter().flat_map(Tls::files));
    let with_tls = upstreams.iter().filter_map(|upstream| upstream.tls.as_ref());
    files.extend(with_tls.flat_map(UpstreamTls::files));
    files.extend(keys.iter().filter_map(|keys| keys.usage.path.as_deref()));
    let audit = audit(check, root.audit, keys.as_ref(), &files);
    let admin = root.admin.0.and_then(|given| admin::admin(check, given, &server));
    files.extend(admin.iter().filter_map(|admin| admin.tls.as_ref()).flat_map(Tls::files));
    files.extend(audit.iter().map(|audit| audit.file.as_path()));
    let log = log(check, root.log, &files);
    let metrics = metrics(check, root.metrics);
    let roles = roles.resolved;
    match (keys, audit, identity, routes) {
        (Some(keys), Some(audit), Some(identity), Some(routes)) if check.faults() == 0 => {
            Ok(Config {
                path: path.to_owned(),
                realm,
                server,
                keys,
                audit,
                auth,
                identity,
                roles,
                upstreams,
                routes: Arc::new(routes),
                admin,
                log,
                metrics,
                warnings: Report::default(),
            })
        }
        // A guess at a pepper or a role would find fault with every key.
        (Some(keys), ..) if root_faults + key_faults + role_faults == 0 => {
            Err(Some(Box::new(KeyFacts { keys, roles })))
        }
        _ => Err(None),
    }
}

fn realm(check: &mut Check<'_>, field: Field<String>) -> String {
    let Some(text) = check.text(field) else { return "keyward".to_owned() };
    let prints = |c: char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\');
    if text.value.is_empty() || !text.value.chars().all(prints) {
        let message = format!("the realm {} cannot stand in WWW-Authenticate", text.shown);
        check.fault(text.span, message, "write ASCII characters that print, without \" and \\");
    } else if text.value.len() > limits::REALM_BYTES_MAX {
        let help = format!("write {} characters at most", limits::REALM_BYTES_MAX);
        check.fault(text.span, "the realm is too long", help);
    }
    text.value
}

fn keys(check: &mut Check<'_>, section: Section<raw::Keys>) -> Option<Keys> {
    let raw = check.section("keys", section);
    let store = match check.text(raw.store) {
        Some(text) => check.path(&text),
        None => check.in_folder("keys.toml"),
    };
    let prefix = match check.text(raw.prefix) {
        None => Prefix::new("kw").ok(),
        Some(text) => match Prefix::new(&text.value) {
            Ok(prefix) => Some(prefix),
            Err(error) => {
                let message = format!("the prefix {} {}", text.shown, text.reason(error));
                check.fault(text.span, message, "write 1 to 16 lower-case letters and digits");
                None
            }
        },
    };
    let pepper = pepper(check, raw.pepper);
    let interval = check.duration(raw.usage_interval, &limits::USAGE_INTERVAL);
    let path = match check.text(raw.usage) {
        None => Some(store.with_extension("usage.jsonl")),
        Some(text) if text.value == "off" => None,
        Some(text) => Some(check.path(&text)),
    };
    Some(Keys { store, prefix: prefix?, pepper, usage: UsageFile { path, interval } })
}

/// A pepper goes from the environment into a [`Secret`], past the texts that may be shown.
fn pepper(check: &mut Check<'_>, field: Field<String>) -> Option<Arc<Pepper>> {
    let written = check.field(field)?;
    let span = written.span();
    let Some(name) = variable(written.get_ref()) else {
        let help = "take it from the environment: pepper = \"${KEYWARD_PEPPER}\"";
        check.fault(span, "a pepper must not stand in a file", help);
        return None;
    };
    let Some(value) = check.variable(name) else {
        let reference = written.get_ref();
        let problem = Problem { kind: ProblemKind::Missing, reference, at: 0 };
        check.unreplaced(&written, &problem);
        return None;
    };
    match Pepper::new(Secret::new(value.into_bytes())) {
        Ok(pepper) => Some(Arc::new(pepper)),
        Err(error) => {
            let help = "set it to random characters, such as those of `openssl rand -hex 32`";
            check.fault(span, format!("the pepper in {} {error}", written.get_ref()), help);
            None
        }
    }
}

/// `others` are files that the audit log must not be appended to.
fn audit(
    check: &mut Check<'_>,
    section: Section<raw::Audit>,
    keys: Option<&Keys>,
    others: &[&Path],
) -> Option<Audit> {
    let raw = check.section("audit", section);
    let Some(text) = check.text(raw.file) else {
        return keys.map(|keys| Audit { file: keys.store.with_extension("audit.jsonl") });
    };
    let file = check.path(&text);
    if others.contains(&file.as_path()) {
        let help = "name a file that holds nothing but the audit log";
        check.fault(
            text.span,
            "the audit log would be written into a file that keyward reads",
            help,
        );
    }
    Some(Audit { file })
}

fn metrics(check: &mut Check<'_>, section: Section<raw::Metrics>) -> Metrics {
    let raw = check.section("metrics", section);
    Metrics { per_key: check.field(raw.per_key).is_some_and(|given| given.into_inner()) }
}

/// `others` are files that the log must not be appended to.
fn log(check: &mut Check<'_>, section: Section<raw::Log>, others: &[&Path]) -> Log {
    let raw = check.section("log", section);
    let access = access_log(check, raw.access, others);
    let format = check.one_of(
        raw.format,
        LogFormat::default(),
        &[("auto", LogFormat::Auto), ("json", LogFormat::Json), ("text", LogFormat::Text)],
    );
    let on_overflow = check.one_of(
        raw.on_overflow,
        OnOverflow::default(),
        &[("block", OnOverflow::Block), ("drop", OnOverflow::Drop)],
    );
    Log { access, format, on_overflow }
}

fn access_log(check: &mut Check<'_>, field: Field<String>, others: &[&Path]) -> AccessLog {
    let Some(text) = check.text(field) else { return AccessLog::Stdout };
    match text.value.as_str() {
        "stdout" => return AccessLog::Stdout,
        "stderr" => return AccessLog::Stderr,
        "off" => return AccessLog::Off,
        _ => {}
    }
    if let Some(word) = text.meant(["stdout", "stderr", "off"]) {
        let message = format!("{} is probably meant to be {word:?}", text.shown);
        check.fault(text.span, message, format!("write {word:?}; a file of that name is \"./…\""));
        return AccessLog::Off;
    }
    let path = check.path(&text);
    if others.contains(&path.as_path()) {
        let help = "name a file that holds nothing but the log";
        check.fault(text.span, "the log would be written into a file that keyward reads", help);
    }
    AccessLog::File(path)
}
