//! A person in front of a real browser, from the first key to a key that is refused; and what those need who see or point
//! otherwise than others.
//!
//! Never here: what a raw client can test.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::super::{Desk, expect};
use crate::harness::browser::Page;
use crate::harness::setup::write;
use crate::harness::{Actor, Browser, Setup, Upstream, wait_for};

/// Finds what keeps people from using a page (`make test` installs it).
const AXE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/.tools/axe/node_modules/axe-core/axe.min.js");
/// Every rule of WCAG 2.2, A and AA, and what is good practice beside.
const AXE_RUN: &str = "axe.run().then((found) => found.violations.map((violation) => \
                       violation.id + ': ' + violation.nodes.map((node) => node.html).join(' | ')))";
/// Where the pictures for README.md are.
const PICTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/pictures");

/// The address of the page, by a name that browsers take for a safe place.
fn address(desk: &Desk) -> String {
    format!("http://localhost:{}", desk.address.port())
}

#[track_caller]
fn sign_in(page: &mut Page, desk: &Desk, actor: &Actor) {
    page.go(&format!("{}/keys", address(desk)));
    assert_eq!(page.path(), "/sign-in?next=%2Fkeys");
    page.fill("#key", &actor.key);
    page.follow("form button");
    assert_eq!(page.path(), "/keys", "{}", page.text("main"));
}

/// Makes a key labelled `label`; gives back who holds it.
#[track_caller]
fn create(page: &mut Page, label: &str, user: Option<&str>) -> Actor {
    page.follow("a[href='/keys/new']");
    page.fill("#label", label);
    if let Some(user) = user {
        page.fill("#user", user);
    }
    page.eval("document.querySelector('#role').value = 'viewer'");
    page.follow("main form button");
    let secret = page.text("#secret");
    assert!(secret.starts_with("kw_"), "{secret}");
    let mut holder = Actor::new(user.unwrap_or("mara"), "viewer").with_key(&secret);
    page.click("[data-copy]");
    let said = wait_for("what is said of the copy", || {
        Some(page.text("#copied")).filter(|said| !said.is_empty())
    });
    // Whether a browser without a window may write to a clipboard is its affair.
    assert!(said == "Copied" || said.starts_with("Selected"), "{said}");
    page.follow("main a.button");
    holder.id = page.path().trim_start_matches("/keys/").to_owned();
    holder
}

/// What `keyward init` makes, served, and whoever it made the first key for.
fn from_the_beginning() -> Desk {
    let app = Upstream::hello();
    let setup = Setup::new(&app);
    let folder = setup.folder.path();
    let endpoint = format!("http://{}", app.address());
    let made = Command::new(env!("CARGO_BIN_EXE_keyward"))
        .args(["init", "--dir", ".", "--upstream", &endpoint])
        .current_dir(folder)
        .env("USER", "carol")
        .output()
        .expect("the binary is built");
    assert!(made.status.success(), "{made:?}");
    let key = String::from_utf8(made.stdout).expect("a key is a text");
    let file = folder.join("keyward.toml");
    let config = fs::read_to_string(&file).expect("it was made");
    write(&file, &config.replace("127.0.0.1:8080", "127.0.0.1:0").replace(":9901", ":0"));
    let kw = setup.start_on("keyward.toml");
    let address = kw.admin_address();
    let carol = Actor::new("carol", "admin").with_key(key.trim());
    let others = Vec::new();
    let (admin, manager, viewer) = (carol.clone(), carol.clone(), carol);
    Desk { kw, _app: app, address, admin, manager, viewer, others }
}

#[test]
fn a_key_is_made_used_seen_to_be_used_and_disabled() {
    let desk = from_the_beginning();
    let browser = Browser::open("about:blank");
    let mut page = browser.page();
    sign_in(&mut page, &desk, &desk.admin);
    let bob = create(&mut page, "billing export", Some("bob"));
    assert!(page.text("h1").contains("billing export"), "{}", page.text("main"));
    assert_eq!(desk.kw.get("/orders", &bob).status(), 200);
    // Workers report what is new every few seconds.
    wait_for("the page to show that it was used", || {
        page.go(&format!("{}/keys/{}", address(&desk), bob.id));
        page.text("main").contains("127.0.0.1 (1)").then_some(())
    });
    page.follow("a[href$='/disable']");
    assert!(page.text("main").contains("127.0.0.1 (1)"), "what would break: {}", page.text("main"));
    page.fill("#reason", "left the firm");
    page.follow("main form button");
    assert!(page.text(".notice.good").contains("is disabled"));
    assert!(page.text("main").contains("left the firm"));
    let refused = desk.kw.get("/orders", &bob);
    assert_eq!((refused.status(), refused.code()), (401, "key_disabled".to_owned()));
    page.follow("header form button");
    assert_eq!(page.path(), "/sign-in?why=out");
    page.go(&format!("{}/keys", address(&desk)));
    assert_eq!(page.path(), "/sign-in?next=%2Fkeys");
}

#[test]
fn a_manager_sees_and_makes_their_own_keys_alone() {
    let desk = Desk::new();
    let browser = Browser::open("about:blank");
    let mut page = browser.page();
    sign_in(&mut page, &desk, &desk.manager);
    assert_eq!(page.text("h1"), "Your keys");
    assert_eq!(page.eval("document.querySelectorAll('tbody tr').length"), 1);
    page.follow("a[href='/keys/new']");
    assert!(page.eval("document.querySelector('#user')").is_null());
    let roles =
        page.eval("[...document.querySelectorAll('#role option')].map((o) => o.value).join(' ')");
    assert_eq!(roles, "author manager viewer");
    page.go(&format!("{}/keys", address(&desk)));
    let mine = create(&mut page, "my nightly export", None);
    assert_eq!(desk.kw.get("/", &mine).status(), 200);
    page.go(&format!("{}/keys/{}", address(&desk), desk.viewer.id));
    assert_eq!(page.text("h1"), "Not found");
    page.go(&format!("{}/keys", address(&desk)));
    assert_eq!(page.eval("document.querySelectorAll('tbody tr').length"), 2);
}

#[test]
fn what_people_write_runs_in_no_browser() {
    const MARKUP: &str =
        "\"><img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>";
    let desk = Desk::with(|setup| {
        setup.key("eve", "viewer");
    });
    name(&desk, &desk.other("eve"), MARKUP);
    let browser = Browser::open("about:blank");
    let mut page = browser.page();
    sign_in(&mut page, &desk, &desk.admin);
    let eve = desk.other("eve").id;
    for target in [
        "/keys".to_owned(),
        format!("/keys/{eve}"),
        format!("/keys/{eve}/disable"),
        format!("/keys/{eve}/edit"),
    ] {
        page.go(&format!("{}{target}", address(&desk)));
        assert!(
            !page.eval("document.title").as_str().expect("a title").starts_with("run"),
            "{target}"
        );
        assert_eq!(
            page.eval("document.querySelectorAll('main img, main script').length"),
            0,
            "{target}"
        );
        assert!(
            page.eval("document.documentElement.outerHTML.includes('onerror')") == true,
            "{target}"
        );
    }
}

/// Gives the key of `actor` a label.
#[track_caller]
fn name(desk: &Desk, actor: &Actor, label: &str) {
    let edit = serde_json::json!({ "label": label });
    expect(
        &desk.ask(&desk.admin, &format!("PATCH /api/v1/keys/{}", actor.id), Some(&edit)),
        200,
        "",
    );
}

/// Every view, as an admin comes to it, and the picture of it in README.md.
fn views(desk: &Desk) -> Vec<(&'static str, String)> {
    let viewer = &desk.viewer.id;
    let explained = format!("/explain?key_id={viewer}&method=POST&path=%2Forders%2F7&address=");
    vec![
        ("keys", "/keys".to_owned()),
        ("nothing-found", "/keys?q=nothing-like-it".to_owned()),
        ("create", "/keys/new?methods=GET".to_owned()),
        ("key", format!("/keys/{viewer}")),
        ("edit", format!("/keys/{viewer}/edit")),
        ("disable", format!("/keys/{viewer}/disable")),
        ("rotate", format!("/keys/{viewer}/rotate")),
        ("delete", format!("/keys/{viewer}/delete")),
        ("enable", format!("/keys/{viewer}/enable")),
        ("audit", "/audit".to_owned()),
        ("routes", "/routes".to_owned()),
        ("explain", explained),
        ("failure", "/keys/key_nobody".to_owned()),
        ("sign-in", "/sign-in?why=ended".to_owned()),
    ]
}

#[track_caller]
fn look(page: &mut Page, axe: &str, name: &str) {
    for (scheme, width) in [("light", 1_200), ("dark", 1_200), ("light", 390)] {
        page.look(scheme, width);
        page.eval(axe);
        let found = page.eval(AXE_RUN);
        assert_eq!(found, serde_json::json!([]), "{name}, {scheme}, {width} wide");
        let is_wider = page.eval("document.documentElement.scrollWidth > innerWidth");
        assert_eq!(is_wider, false, "{name} is wider than {width}");
        // Only when they are asked for: they are in the repository.
        if std::env::var_os("KEYWARD_PICTURES").is_some()
            && width == 1_200
            && ["keys", "key", "disable"].contains(&name)
        {
            std::fs::create_dir_all(PICTURES).expect("the repository can be written");
            page.picture(&Path::new(PICTURES).join(format!("{name}-{scheme}.png")));
        }
    }
}

#[test]
fn nothing_keeps_anybody_from_using_a_page() {
    let axe = std::fs::read_to_string(AXE).expect("`make test` installs axe-core");
    let desk = Desk::with(|setup| {
        setup.routes(
            "[[routes]]\npath = \"/health\"\npublic = true\n\
             [[routes]]\npath = \"/orders/{id}\"\nmethods = [\"GET\"]\nroles = [\"viewer\"]\n\
             [[routes]]\npath = \"/{*rest}\"\n",
        );
        setup.add(Actor::new("bob", "author"));
        setup.add(Actor::new("carol", "viewer").with("enabled = false"));
        setup.add(Actor::new("dave", "viewer").with("expires_at = 2020-01-01T00:00:00Z"));
        for (day, actor) in (10..).zip(&mut setup.actors) {
            let start = actor.key[..7].to_owned();
            actor.more += &format!("\ncreated_at = 2026-11-{day}T10:00:00Z\nstart = {start:?}\n");
        }
    });
    for (user, label) in [("bob", "warehouse sync"), ("carol", "old CI"), ("dave", "trial")] {
        name(&desk, &desk.other(user), label);
    }
    name(&desk, &desk.viewer, "grafana dashboard");
    for target in ["/health", "/orders/7", "/orders/8", "/reports/2026"] {
        desk.kw.get(target, &desk.viewer);
        desk.kw.get(target, &desk.other("bob"));
    }
    let browser = Browser::open("about:blank");
    let mut page = browser.page();
    sign_in(&mut page, &desk, &desk.admin);
    wait_for("the page to show what was used", || {
        page.go(&format!("{}/keys/{}", address(&desk), desk.viewer.id));
        page.text("main").contains("127.0.0.1 (").then_some(())
    });
    page.go(&format!("{}/keys", address(&desk)));
    for (name, target) in views(&desk) {
        page.go(&format!("{}{target}", address(&desk)));
        look(&mut page, &axe, name);
    }
    page.go(&format!("{}/keys/new", address(&desk)));
    page.fill("#label", "x");
    page.fill("#expires", "soon");
    page.follow("main form button");
    assert!(
        page.text("#label-error").contains("must say") || !page.text("#label-error").is_empty()
    );
    look(&mut page, &axe, "refused");
    page.fill("#label", "billing export");
    page.fill("#expires", "90d");
    page.follow("main form button");
    look(&mut page, &axe, "reveal");
}
