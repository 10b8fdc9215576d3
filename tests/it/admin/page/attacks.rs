//! No other site makes the page do anything, and nothing that anybody writes becomes a part of it.

use serde_json::json;

use super::super::{Desk, expect};
use super::{Visitor, cookie, post, sign_in};

#[test]
fn a_form_without_the_token_of_its_session_does_nothing() {
    let desk = Desk::new();
    let visitor = Visitor::new(&desk, &desk.admin);
    let other = Visitor::new(&desk, &desk.admin).token();
    let viewer = &desk.viewer;
    let disable = format!("/keys/{}/disable", viewer.id);
    for token in ["", "x", other.as_str()] {
        for target in [disable.as_str(), "/keys/new", "/sign-out"] {
            let answer = visitor.post(target, &[("token", token), ("label", "forged")]);
            assert_eq!(answer.status(), 403, "{target} {token:?}");
            assert!(answer.text().contains("was not made for your session"));
        }
    }
    assert_eq!(visitor.post(&disable, &[]).status(), 403);
    assert_eq!(desk.kw.get("/", viewer).status(), 200);
    assert_eq!(desk.ids(&desk.admin, "/api/v1/keys").len(), 3);
    visitor.page("/keys");
}

#[test]
fn no_other_site_has_a_browser_send_anything() {
    let desk = Desk::new();
    let visitor = Visitor::new(&desk, &desk.admin);
    let token = visitor.token();
    let disable = format!("/keys/{}/disable", desk.viewer.id);
    for fields in [
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Origin: http://evil.example\r\n",
        "Origin: null\r\n",
        "Origin: http://localhost:1\r\n",
    ] {
        let headers = format!("Cookie: {}\r\n{fields}", visitor.cookie);
        expect(&post(&desk, &disable, &headers, &[("token", &token)]), 403, "cross_site");
        // Nor is anybody signed in as somebody else.
        expect(&sign_in(&desk, &desk.admin.key, "", fields), 403, "cross_site");
    }
    assert_eq!(desk.kw.get("/", &desk.viewer).status(), 200);
    // DNS rebinding: the browser takes us for another site.
    for line in ["GET /keys", "GET /sign-in", "GET /assets/style.css"] {
        let request =
            format!("{line} HTTP/1.1\r\nHost: evil.example\r\nCookie: {}\r\n\r\n", visitor.cookie);
        expect(&desk.send(&request), 421, "foreign_host");
    }
}

#[test]
fn every_page_forbids_frames_scripts_and_resources_of_others() {
    let desk = Desk::new();
    let visitor = Visitor::new(&desk, &desk.admin);
    let key = format!("/keys/{}", desk.viewer.id);
    let disable = format!("{key}/disable");
    for target in ["/keys", "/keys/new", &key, &disable, "/keys/key_nobody", "/sign-in"] {
        let answer = visitor.get(target);
        let policy = answer.field("content-security-policy").expect("every page has one");
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.split("; ").any(|found| found == part), "{target}: {part} in {policy}");
        }
        for (name, value) in [
            ("cache-control", "no-store"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("referrer-policy", "same-origin"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(answer.fields(name), [value], "{target}: {name}");
        }
        let page = answer.text();
        for forbidden in ["http://", "https://", "<style", "style=\"", "onclick", "javascript:"] {
            // The name of SVG's language is no address.
            assert!(!page.contains(forbidden), "{target}: {forbidden}");
        }
    }
}

#[test]
fn what_pages_are_made_of_is_kept_by_browsers_and_nothing_else_is() {
    let desk = Desk::new();
    let page = desk.probe("/sign-in").text();
    for name in ["style.css", "copy.js", "icon.svg"] {
        let start = format!("/assets/{name}?v=");
        let version = page.split_once(&start).expect("every page names it").1;
        let target = format!("{start}{}", version.split('"').next().expect("a version"));
        let answer = desk.probe(&target);
        assert_eq!(answer.status(), 200, "{target}");
        assert_eq!(answer.fields("cache-control"), ["public, max-age=31536000, immutable"]);
        assert_eq!(answer.fields("x-content-type-options"), ["nosniff"]);
    }
    for name in ["x", "..%2fmod.rs", "style.css%00"] {
        expect(&desk.probe(&format!("/assets/{name}")), 404, "not_found");
    }
}

#[test]
fn what_people_write_is_text() {
    const MARKUP: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>";
    let desk = Desk::new();
    let wish = json!({ "label": MARKUP, "role": "viewer", "user": "<b>mallory</b>" });
    let made = desk.create(&desk.admin, &wish);
    let id = made["id"].as_str().expect("an id");
    // The user agent of whoever uses the key, and the path they ask for, are nobody's business here, but may come.
    let holder = Desk::holder(&made);
    desk.kw.ask(format!(
        "GET /{MARKUP} HTTP/1.1\r\nHost: a\r\nUser-Agent: {MARKUP}\r\nX-Api-Key: {}\r\n\r\n",
        holder.key
    ));
    let visitor = Visitor::new(&desk, &desk.admin);
    let disable = format!("/keys/{id}/disable");
    let answer = visitor.submit(&disable, &[("reason", MARKUP)]);
    assert_eq!(answer.status(), 303, "{}", answer.text());
    let key = format!("/keys/{id}");
    let search = format!("/keys?q={}", super::encode(&[("", MARKUP)]).trim_start_matches('='));
    for target in [
        "/keys",
        &search,
        &key,
        &format!("{key}/delete"),
        &format!("{key}/enable"),
        &format!("{key}/rotate"),
        &format!(
            "/keys/new?{}",
            super::encode(&[("label", MARKUP), ("user", MARKUP), ("paths", MARKUP)])
        ),
    ] {
        let page = visitor.page(target);
        assert!(page.contains("&#60;script&#62;alert(1)"), "{target}: it is shown");
        for forbidden in ["<script>alert", "<img", "<b>mallory", "\"'><"] {
            assert!(!page.contains(forbidden), "{target}: {forbidden} in {page}");
        }
    }
    // Neither does the gate take it up.
    let gate =
        desk.probe(&format!("/sign-in?{}", super::encode(&[("next", MARKUP), ("why", MARKUP)])));
    assert!(!gate.text().contains("<script>alert") && !gate.text().contains("<img"));
    let refused = sign_in(&desk, MARKUP, MARKUP, "");
    assert!(!refused.text().contains("<script>alert") && !refused.text().contains("<img"));
}

#[test]
fn no_page_but_the_one_that_shows_it_once_holds_a_key() {
    let desk = Desk::new();
    let visitor = Visitor::new(&desk, &desk.admin);
    let answer =
        visitor.submit("/keys/new", &[("label", "nightly"), ("role", "viewer"), ("user", "bob")]);
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(answer.fields("cache-control"), ["no-store"]);
    let secret = super::secret(&answer.text());
    let id = desk.ids(&desk.admin, "/api/v1/keys?label=nightly").pop().expect("it was made");
    let pages = ["", "/disable", "/rotate", "/delete", "/enable"];
    let pages = pages.map(|page| format!("/keys/{id}{page}"));
    for target in pages.iter().map(String::as_str).chain(["/keys", "/keys/new"]) {
        let page = visitor.page(target);
        for key in [&secret, &desk.admin.key, &desk.manager.key, &desk.viewer.key] {
            assert!(!page.contains(key.as_str()), "{target}");
        }
        assert!(!page.contains("sha256:"), "{target}");
        let session = cookie(&sign_in(&desk, &desk.admin.key, "", ""));
        assert!(!page.contains(session.split_once('=').expect("a value").1));
        assert!(!page.contains(visitor.cookie.split_once('=').expect("a value").1), "{target}");
    }
    let events = std::fs::read_to_string(desk.kw.path("logs/stderr")).expect("its events");
    assert!(!events.contains(&secret) && !events.contains(&desk.admin.key));
}
