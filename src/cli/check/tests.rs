//! What is odd about a configuration and its keys, and what differs between two, as tables.

use jiff::Timestamp;

use super::diff::{Change, Side, changes};
use super::plan::Plan;
use super::reach::warnings;
use super::view;
use crate::config::{self, Config};
use crate::diagnostics::Source;
use crate::identity::{Label, RoleName};
use crate::keys::KeyRecord;
use crate::keys::format::Hasher;

const ROLES: &str = "[roles.viewer]\n[roles.author]\ninherits = ['viewer']\n\
                     [roles.admin]\ninherits = ['author']\nadmin = 'all'\n";
const DAY_S: i64 = 24 * 60 * 60;

fn now() -> Timestamp {
    "2026-11-23T10:00:00Z".parse().unwrap()
}

fn config(text: &str) -> Config {
    let upstream = "[upstreams.app]\nendpoints = ['http://127.0.0.1:3000']\n";
    let text =
        if text.contains("[upstreams") { text.to_owned() } else { format!("{text}{upstream}") };
    let source = Source { path: "keyward.toml".into(), text };
    let env = |name: &str| name.starts_with("PEPPER").then(|| format!("{name}, which nobody sees"));
    config::parse(source, env).unwrap_or_else(|report| panic!("{report}"))
}

fn key(id: &str, role: &str) -> KeyRecord {
    KeyRecord {
        label: Label::new("export").unwrap(),
        role: RoleName::new(role).unwrap(),
        ..KeyRecord::sample(id, id)
    }
}

fn route(path: &str, who: &str) -> String {
    format!("[[routes]]\npath = '{path}'\n{who}\n")
}

/// The warnings, each as its code and what it is about.
fn found(text: &str, keys: &[KeyRecord]) -> Vec<String> {
    let warnings = warnings(&config(text), keys, now());
    warnings.iter().map(|found| format!("{}: {}", found.code, found.about.join(" "))).collect()
}

/// What the paths of `routes` alone let find.
#[track_caller]
fn check_routes(routes: &[(&str, &str)], expect: &[&str]) {
    let routes: String = routes.iter().map(|(path, who)| route(path, who)).collect();
    let text = format!("{ROLES}{routes}");
    let mut found = found(&text, &[key("key_a", "admin")]);
    found.retain(|found| !found.starts_with("role_"));
    assert_eq!(found, expect, "{text}");
}

const ADMIN: &str = "roles = ['admin']";
const VIEWER: &str = "roles = ['viewer']";
const PUBLIC: &str = "public = true";

#[test]
fn an_exact_path_beside_a_wider_route_is_found() {
    check_routes(&[("/admin", ADMIN), ("/{*rest}", VIEWER)], &["wider_with_slash: /admin"]);
    check_routes(&[("/admin", ADMIN), ("/{*rest}", "")], &["wider_with_slash: /admin"]);
    check_routes(&[("/admin", ""), ("/{*rest}", PUBLIC)], &["wider_with_slash: /admin"]);
    check_routes(&[("/u/{id}", ADMIN), ("/u/{*rest}", VIEWER)], &["wider_with_slash: /u/{id}"]);
    check_routes(&[("/ü", ADMIN), ("/{*rest}", VIEWER)], &["wider_with_slash: /ü"]);
    // As wide or narrower, for no method of the other, or covered.
    check_routes(&[("/admin", ADMIN), ("/{*rest}", ADMIN)], &[]);
    check_routes(&[("/health", PUBLIC), ("/{*rest}", VIEWER)], &[]);
    check_routes(
        &[("/admin", "methods = ['GET']\nroles = ['admin']"), ("/{*rest}", "methods = ['POST']")],
        &[],
    );
    check_routes(&[("/admin/{*rest}", ADMIN), ("/{*rest}", VIEWER)], &[]);
    check_routes(&[("/admin", ADMIN), ("/admin/", ADMIN), ("/{*rest}", VIEWER)], &[]);
}

#[test]
fn a_route_that_others_cover_is_found() {
    check_routes(
        &[("/", VIEWER), ("/{a}/{*b}", VIEWER), ("/{*rest}", ADMIN)],
        &["unreachable_route: /{*rest}"],
    );
    check_routes(&[("/{a}/{*b}", VIEWER), ("/{*rest}", VIEWER)], &[]);
}

#[test]
fn what_is_called_unreachable_is_reached_by_no_path() {
    const ROUTES: [(&str, &str); 4] =
        [("/", ""), ("/a/{*r}", ""), ("/{x}/{*r}", ""), ("/{*rest}", "")];
    let routes: String = ROUTES.iter().map(|(path, who)| route(path, who)).collect();
    check_routes(&ROUTES, &["unreachable_route: /{*rest}"]);
    let config = config(&routes);
    for path in ["/", "/a", "/a/", "/b", "/b/", "/b/c", "/a/b/c"] {
        let found = config.routes.find(path).unwrap().unwrap();
        assert_ne!(found.pattern(), "/{*rest}", "{path}");
    }
}

#[test]
fn a_public_family_inside_a_closed_route_is_found() {
    let found = ["public_inside: /admin/{page} /admin/{*rest}"];
    check_routes(&[("/admin/{page}", PUBLIC), ("/admin/{*rest}", ADMIN)], &found);
    check_routes(&[("/admin/status", PUBLIC), ("/admin/{*rest}", ADMIN)], &[]);
    check_routes(&[("/assets/{*rest}", PUBLIC), ("/{*rest}", VIEWER)], &[]);
}

#[test]
fn what_no_key_can_use_is_found() {
    let text = format!("{ROLES}{}{}", route("/admin/{*rest}", ADMIN), route("/{*rest}", VIEWER));
    let check = |keys: &[KeyRecord], expect: &[&str]| assert_eq!(found(&text, keys), expect);
    let mut disabled = key("key_b", "admin");
    disabled.enabled = false;
    let mut expired = key("key_c", "admin");
    expired.expires_at = Some(now());
    let only_viewers = ["route_without_key: /admin/{*rest}", "role_without_key: admin author"];

    check(&[key("key_a", "admin")], &[]);
    check(&[key("key_a", "viewer")], &only_viewers);
    check(&[key("key_a", "viewer"), disabled.clone(), expired], &only_viewers);
    check(&[disabled], &["no_key: "]);
    check(&[], &["no_key: "]);
    assert_eq!(found(&route("/{*rest}", PUBLIC), &[]), [""; 0]);
}

#[test]
fn roles_and_keys_that_pass_nowhere_are_found() {
    let robot = format!("{ROLES}[roles.robot]\n{}", route("/{*rest}", VIEWER));
    let admin = key("key_a", "admin");
    assert_eq!(
        found(&robot, std::slice::from_ref(&admin)),
        ["role_without_key: robot", "role_without_route: robot"]
    );
    assert_eq!(
        found(&robot, &[admin.clone(), key("key_b", "robot"), key("key_c", "robot")]),
        ["key_without_route: key_b key_c"]
    );
    // Any key passes, and the upstream learns its role.
    let open = format!("{ROLES}[roles.robot]\n{}", route("/{*rest}", ""));
    assert_eq!(found(&open, &[admin, key("key_b", "robot")]), [""; 0]);
}

#[test]
fn keys_that_end_within_30_days_are_found() {
    let check = |days_s: i64, expect: &[&str]| {
        let mut key = key("key_a", "admin");
        key.expires_at = Some(Timestamp::from_second(now().as_second() + days_s).unwrap());
        assert_eq!(found(&format!("{ROLES}{}", route("/{*rest}", VIEWER)), &[key]), expect);
    };
    check(30 * DAY_S, &["key_expires_soon: key_a"]);
    check(30 * DAY_S + 1, &[]);
    check(1, &["key_expires_soon: key_a"]);
    check(0, &["no_key: "]);
}

#[test]
fn an_upstream_that_no_route_goes_to_is_found() {
    let upstreams =
        "[upstreams.a]\nendpoints = ['http://a']\n[upstreams.b]\nendpoints = ['http://b']\n";
    let text = format!("{upstreams}{}", route("/{*rest}", "public = true\nupstream = 'b'"));
    assert_eq!(found(&text, &[]), ["upstream_without_route: a"]);
}

#[test]
fn head_goes_with_get_and_heirs_are_named() {
    let routes = [
        route("/a", "methods = ['POST', 'GET', 'PUT']\nroles = ['author']"),
        route("/b", "methods = ['GET']\npublic = true"),
        route("/b", "methods = ['HEAD']"),
        route("/b", ""),
        route("/c", ""),
    ];
    let plan = Plan::new(&config(&format!("{ROLES}{}", routes.concat())), &[], now());
    let row = |place: usize| {
        let route: &super::plan::RouteRow = &plan.routes[place];
        format!("{} {}: {}", route.path, route.shown_methods, view::who_may_pass(route))
    };
    assert_eq!(
        (0..plan.routes.len()).map(row).collect::<Vec<_>>(),
        [
            "/a POST, GET, HEAD, PUT: author (inherited by admin)",
            "/b GET: everybody (public)",
            "/b HEAD: any key",
            "/b all others: any key",
            "/c all: any key",
        ]
    );
}

fn differences(old: (&str, &[KeyRecord]), new: (&str, &[KeyRecord])) -> Vec<Change> {
    let (old_config, new_config) = (config(old.0), config(new.0));
    let old = Side { config: &old_config, keys: old.1 };
    changes(old, Side { config: &new_config, keys: new.1 }, now())
}

/// The lines that tell of the changes, without heading and sum.
fn told(changes: &[Change]) -> Vec<String> {
    let mut text = Vec::new();
    view::write_changes(&mut text, changes).unwrap();
    let text = String::from_utf8(anstream::adapter::strip_bytes(&text).into_vec()).unwrap();
    let lines = text.lines().skip(1).take_while(|line| !line.is_empty());
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn what_is_alike_differs_in_nothing() {
    let text = format!("{ROLES}{}", route("/{*rest}", VIEWER));
    let keys = [key("key_a", "admin")];
    assert_eq!(differences((&text, &keys), (&text, &keys)), []);
}

#[test]
fn every_kind_of_change_is_told() {
    let old = format!("{ROLES}{}{}", route("/a", VIEWER), route("/b", ""));
    let new = format!(
        "realm = 'new'\n[roles.viewer]\n[roles.author]\n[roles.admin]\ninherits = ['author']\n\
         admin = 'all'\n[upstreams.app]\nendpoints = ['http://[::1]:1', 'http://h']\n{}{}",
        route("/a", VIEWER),
        route("/c", PUBLIC)
    );
    let (kept, mut turned, mut replaced) =
        (key("key_a", "admin"), key("key_b", "viewer"), key("key_c", "viewer"));
    let old_keys = [kept.clone(), turned.clone(), replaced.clone(), key("key_d", "viewer")];
    turned.enabled = false;
    turned.role = RoleName::new("admin").unwrap();
    replaced.hash = Hasher::default().digest(b"another key");
    let new_keys = [kept, turned, replaced, key("key_e", "viewer")];
    let changes = differences((&old, &old_keys), (&new, &new_keys));
    assert_eq!(
        told(&changes),
        [
            "~ setting realm keyward → new",
            "~ role admin inherits: author, viewer → author",
            "~ role author inherits: viewer → none",
            "~ upstream app endpoints: http://127.0.0.1:3000 → http://[::1]:1, http://h:80",
            "~ route /a (all) who may pass: viewer (inherited by admin, author) → viewer",
            "- route /b (all) who may pass: any key; upgrades: none; upstream: app; ambiguous_paths: refuse; limits: none",
            "+ route /c (all) who may pass: everybody (public); upgrades: none; upstream: app; ambiguous_paths: refuse; limits: none",
            "~ key key_b role: viewer → admin; state: enabled → disabled",
            "~ key key_c secret: replaced",
            "- key key_d user: alice; role: viewer; label: export; state: enabled; expires: never; \
             methods: all; paths: all; addresses: all; limits: none",
            "+ key key_e user: alice; role: viewer; label: export; state: enabled; expires: never; \
             methods: all; paths: all; addresses: all; limits: none",
        ]
    );
}

#[test]
fn how_an_upstream_is_used_is_told() {
    let old = "[upstreams.app]\nendpoints = ['http://a', 'unix:/b']\n";
    let new = "[upstreams.app]\nendpoints = [{ url = 'http://a', weight = 2 }, 'unix:/b']\n\
               balance = 'hash_user'\nhost = 'endpoint'\nhealth.path = '/up'\n";
    assert_eq!(
        told(&differences((old, &[]), (new, &[]))),
        ["~ upstream app endpoints: http://a:80, unix:/b → http://a:80 (weight 2), unix:/b; \
          balance: round_robin → hash_user; host: keep → endpoint; \
          health: none → /up every 5s within 2s, back after 2, out after 3"],
    );
}

#[test]
fn a_changed_pepper_is_told_and_not_shown() {
    let peppered = |name: &str| format!("[keys]\npepper = '${{{name}}}'\n");
    let (one, other) = (peppered("PEPPER_A"), peppered("PEPPER_B"));
    let check = |old: &str, new: &str, expect: &[&str]| {
        assert_eq!(told(&differences((old, &[]), (new, &[]))), expect);
    };
    check(&one, &other, &["~ setting [keys] pepper secret: replaced"]);
    check("", &one, &["~ setting [keys] pepper not set → set"]);
    assert_eq!(differences((&one, &[]), (&one, &[])), []);
}

#[test]
fn whatever_needs_a_restart_is_told_with_its_setting() {
    let check = |new: &str, setting: &str| {
        let changes = differences(("", &[]), (new, &[]));
        let needing = changes.iter().filter(|change| change.needs_restart);
        let names: Vec<_> = needing.map(|change| &*change.name).collect();
        assert_eq!(names, [setting], "{new}");
        let restart = crate::reload::needs_restart(&config(""), &config(new));
        assert_eq!(restart.len(), 1, "{new}");
    };
    check("[server]\nlisten = ['127.0.0.1:1']\n", "[server] listen");
    check("[server]\nworkers = 77\n", "[server] workers");
    check("[server.limits]\nconnections = 77\n", "[server.limits] connections");
    check("[admin]\nlisten = '127.0.0.1:1'\n", "[admin] listen");
    check("[log]\naccess = 'off'\n", "[log] access");
    check("[log]\nformat = 'text'\n", "[log] format");
    check("[log]\non_overflow = 'drop'\n", "[log] on_overflow");
    let reloaded = differences(("", &[]), ("[server.limits]\nconnections_per_client = 7\n", &[]));
    assert!(!reloaded[0].needs_restart);
}
