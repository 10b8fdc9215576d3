//! What `parse` takes and refuses, as tables.
//!
//! Never here: the parts that have tests of their own (`interpolate`, `conceal`, `diagnostics`).

mod faults;
mod routing;
mod settings;
mod tls;

use super::*;
use crate::auth::credentials::Scheme;
use crate::limit::failures;
use crate::policy::routes::Access;

const PEPPER: &str = "a pepper that nobody may see";

fn env(name: &str) -> Option<String> {
    match name {
        "PEPPER" => Some(PEPPER.to_owned()),
        "SHORT" => Some("quatsch".to_owned()),
        "HOST" => Some("10.1.2.3".to_owned()),
        "LOWER" => Some("patch".to_owned()),
        _ => None,
    }
}

/// Parses `toml`, with an upstream at its end unless it speaks of upstreams.
fn read(toml: &str) -> Result<Config, Report> {
    let mut text = toml.to_owned();
    if !toml.contains("upstreams") {
        text.push_str("\n[upstreams.app]\nendpoints = [\"http://127.0.0.1:3000\"]\n");
    }
    parse(Source { path: "etc/keyward.toml".into(), text }, env)
}

#[track_caller]
fn good(toml: &str) -> Config {
    read(toml).unwrap_or_else(|report| panic!("{report}"))
}

/// The faults and warnings of `toml` must begin as `expected` says: `LINE:COLUMN: message; help`.
#[track_caller]
fn check(toml: &str, expected: &[&str]) {
    let report = match read(toml) {
        Ok(config) => config.warnings,
        Err(report) => report,
    };
    let lines: Vec<String> = report
        .lines()
        .map(|line| line.trim_start_matches("etc/keyward.toml:").trim_start().to_owned())
        .collect();
    let fit = lines.iter().zip(expected).all(|(line, expected)| line.starts_with(expected));
    assert!(fit && lines.len() == expected.len(), "expected {expected:#?}, found {lines:#?}");
}

#[test]
fn everything_but_the_upstream_has_a_default() {
    let config = good("");
    assert_eq!(config.realm, "keyward");
    assert_eq!(config.server.listen, ["127.0.0.1:8080".parse().expect("an address")]);
    assert_eq!(config.server.limits.header_bytes, 32 * 1024);
    assert_eq!(config.server.limits.body_bytes, None);
    assert_eq!(config.server.timeouts.keep_alive, Duration::from_secs(75));
    assert_eq!(config.keys.store, Path::new("etc/keys.toml"));
    assert_eq!(config.keys.prefix.as_str(), "kw");
    assert!(config.keys.pepper.is_none());
    assert_eq!(config.auth.key_sources.len(), 3);
    assert!(config.auth.hide_credentials && !config.auth.forward_preflight);
    let failures = failures::Rule {
        limit: 20,
        window: Duration::from_secs(60),
        ban: Duration::from_secs(300),
        addresses: 65_536,
    };
    assert_eq!(config.auth.failures, Some(failures));
    assert_eq!(config.identity.user, "x-auth-user");
    assert_eq!(config.identity.role, "x-auth-role");
    assert_eq!(config.identity.key_id, "x-auth-key-id");
    assert_eq!(config.log.access, AccessLog::Stdout);
    assert_eq!(config.routes.routes().len(), 1);
    assert!(config.warnings.is_empty());
}

#[test]
fn what_is_written_arrives() {
    let config = good(
        r#"
        realm = "orders at ${HOST}"
        [server]
        listen = ["[::1]:0", "${HOST}:80"]
        workers = 3
        trusted_proxies = ["10.0.0.0/8", "192.0.2.7", "::1"]
        timeouts = { request_header = "1s 500ms", shutdown = "0s" }
        limits = { header_bytes = 8192, body_bytes = "1.5MiB", upstream_idle = 0 }
        [keys]
        store = "/var/lib/keys.toml"
        pepper = "${PEPPER}"
        [auth]
        key_sources = [{ header = "X-Key" }, { header = "authorization", scheme = "bAsIc" }]
        preflight = "forward"
        failures = { limit = 3, ban = "1h" }
        [identity]
        user = "X_User"
        [log]
        access = "log/access.log"
        format = "json"
        on_overflow = "drop"
        "#,
    );
    assert_eq!(config.realm, "orders at 10.1.2.3");
    assert_eq!(config.server.listen[1].to_string(), "10.1.2.3:80");
    assert_eq!(config.server.workers.get(), 3);
    assert_eq!(config.server.trusted_proxies[1].to_string(), "192.0.2.7/32");
    assert_eq!(config.server.trusted_proxies[2].to_string(), "::1/128");
    assert_eq!(config.server.timeouts.request_header, Duration::from_millis(1500));
    assert_eq!(config.server.timeouts.shutdown, Duration::ZERO);
    assert_eq!(config.server.limits.header_bytes, 8192);
    assert_eq!(config.server.limits.body_bytes, Some(1_572_864));
    assert_eq!(config.keys.store, Path::new("/var/lib/keys.toml"));
    assert!(config.keys.pepper.is_some());
    let sources = [
        KeySource::Header { name: "x-key".parse().expect("a name"), scheme: Scheme::Bare },
        KeySource::Header { name: http::header::AUTHORIZATION, scheme: Scheme::Basic },
    ];
    assert_eq!(config.auth.key_sources, sources);
    assert!(config.auth.forward_preflight);
    let failures = config.auth.failures.map(|rule| (rule.limit, rule.window, rule.ban));
    assert_eq!(failures, Some((3, Duration::from_secs(60), Duration::from_secs(3600))));
    assert_eq!(config.identity.user, "x_user");
    assert_eq!(config.log.access, AccessLog::File("etc/log/access.log".into()));
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.log.on_overflow, OnOverflow::Drop);
}

#[test]
fn routes_arrive_with_roles_and_upstreams() {
    let config = good(
        r#"
        [roles.viewer]
        [roles.author]
        inherits = ["viewer"]
        admin = "own"
        [upstreams]
        b.endpoints = ["http://[::1]:81", "http://db_1.internal"]
        a = { endpoints = ["HTTP://localhost:3000"] }
        [[routes]]
        path = "/x"
        upstream = "b"
        roles = ["viewer"]
        ambiguous_paths = "allow"
        [[routes]]
        path = "/x"
        methods = ["GET", "PURGE", "purge"]
        public = true
        upstream = "a"
        "#,
    );
    let names: Vec<_> = config.upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let endpoint = |host: &str, port| Endpoint {
        address: Address::Tcp { host: host.to_owned(), port },
        weight: 1,
    };
    assert_eq!(config.upstreams[0].endpoints, [endpoint("localhost", 3000)]);
    assert_eq!(config.upstreams[1].endpoints, [endpoint("::1", 81), endpoint("db_1.internal", 80)]);
    let [by_role, public] = config.routes.routes()[0].rules() else { panic!("two rules") };
    assert_eq!((by_role.upstream, public.upstream), (1, 0));
    assert!(by_role.allow_ambiguous_paths && !public.allow_ambiguous_paths);
    assert_eq!(public.access, Access::Public);
    let Access::Roles(required) = by_role.access else { panic!("a set of roles") };
    let author = config.roles.find("author").expect("it is declared");
    assert!(author.passes(required));
    assert_eq!(author.admin(), crate::identity::AdminScope::Own);
}

#[test]
fn the_example_is_a_configuration() {
    let source = Source {
        path: "config/keyward.toml".into(),
        text: include_str!("../../config/keyward.toml").into(),
    };
    let config = parse(source, |_| None).unwrap_or_else(|report| panic!("{report}"));
    assert!(config.warnings.is_empty(), "{}", config.warnings);
    assert_eq!(config.keys.store, Path::new("config/keys.toml"));
}

/// The schema in the repository is the one editors load.
#[test]
fn the_committed_schema_is_that_of_the_mirror() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/keyward.schema.json");
    let schema = serde_json::to_string_pretty(&schema()).expect("a value can be written") + "\n";
    if std::env::var_os("KEYWARD_WRITE_SCHEMA").is_some() {
        std::fs::write(&path, &schema).expect("the repository can be written to");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == schema,
        "config/keyward.schema.json is not up to date: run `KEYWARD_WRITE_SCHEMA=1 cargo test --lib \
         committed_schema` and commit it"
    );
}
