//! Who called, as a client would like it told: identity headers in every spelling, in trailers, and claims about what is
//! asked for. CVE-2026-33433, CVE-2025-64484, CVE-2026-54763, CVE-2026-35051.
//!
//! Never here: keys.

use super::case::{Case, KEY, OverHttp2, Parts, Then, ask, get, parts, passes, passes_as, refused};

/// The names that the proxy tells, and what a client would like to be told.
const OURS: [(&str, &str); 3] =
    [("x-auth-user", "evil"), ("x-auth-role", "evil-admin"), ("x-auth-key-id", "evil_key")];

/// The same names, as they are sent.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, value) in OURS {
        let upper = name.to_uppercase();
        let mixed: String = name
            .char_indices()
            .map(|(at, c)| if at % 2 == 0 { c.to_ascii_uppercase() } else { c })
            .collect();
        for (how, spelling) in [("lower", name), ("upper", &upper), ("mixed", &mixed)] {
            let spoof = |request: Parts| request.field(spelling, value);
            let before = spoof(ask("GET", "/x")).key();
            cases.push(parts(format!("{name}, {how} case, before the key"), before, passes()));
            let behind = spoof(get("/x"));
            cases.push(parts(format!("{name}, {how} case, behind the key"), behind, passes()));
        }
        let of = |what: &str| format!("{name}, {what}");
        let spoof = |request: Parts| request.field(name, value);
        cases.push(parts(
            of("without a key"),
            spoof(ask("GET", "/x")),
            refused(&[401], "missing_key"),
        ));
        cases.push(parts(of("on a public route"), spoof(ask("GET", "/public/x")), passes_as(None)));
        cases.push(parts(of("public, with a key"), spoof(get("/public/x")), passes()));
        cases.push(parts(of("twice"), spoof(spoof(get("/x"))), passes()));
        let empty_first = get("/x").field(name, "").field(name, value);
        cases.push(parts(of("empty first"), empty_first, passes()));
        let around = ask("GET", "/x").field(name, value).key().field(name, value);
        cases.push(parts(of("around the key"), around, passes()));
        let list = get("/x").field(name, format!("alice, {value}"));
        cases.push(parts(of("a list"), list, passes()));
        let latin = get("/x").field(name, b"evil\xff\xfe");
        cases.push(parts(of("no UTF-8"), latin, passes()));
        let on_admin = get("/admin/x").field(name, "admin");
        cases.push(parts(of("where it would help"), on_admin, refused(&[403], "forbidden")));
    }
    let all = OURS
        .iter()
        .fold(ask("GET", "/public/x"), |request, (name, value)| request.field(name, value));
    cases.push(parts("all of them, public", all, passes_as(None)));
    cases
}

/// Names that CGI, WSGI and PHP read as ours.
pub(super) fn aliases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, value) in OURS {
        let words: Vec<&str> = name.split('-').collect();
        let separators = ["-", "_", "."];
        let mut spellings = vec![words[0].to_owned()];
        for word in &words[1..] {
            let longer =
                |spelling: &String| separators.map(|between| format!("{spelling}{between}{word}"));
            spellings = spellings.iter().flat_map(longer).collect();
        }
        for spelling in spellings.iter().filter(|spelling| *spelling != name) {
            let spoof = ask("GET", "/public/x").field(spelling, value);
            cases.push(parts(format!("{spelling}, public"), spoof, passes_as(None)));
            let capitals = get("/x").field(&spelling.to_uppercase(), value);
            cases.push(parts(format!("{spelling} in capitals, with a key"), capitals, passes()));
        }
    }
    cases
}

/// Behind a body, where not everybody looks.
pub(super) fn trailers() -> Vec<Case> {
    let post = |target| ask("POST", target).key().body("hello");
    let mut cases = Vec::new();
    for name in [
        "X-Auth-User",
        "x-auth-role",
        "X-Auth-Key-Id",
        "X_Auth_User",
        "x.auth.role",
        "X-Auth_Key.Id",
        "X-Forwarded-For",
        "X_Forwarded_Proto",
        "Forwarded",
        "X-Request-Id",
        "Cookie",
        "Proxy-Authorization",
        "Trailer",
    ] {
        let request = post("/x").trailer(name, "evil");
        cases.push(parts(format!("the trailer {name}"), request, passes()));
    }
    for name in [
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Upgrade",
        "TE",
        "Keep-Alive",
        "Expect",
    ] {
        let request = post("/x").trailer(name, "evil");
        let case = parts(format!("the trailer {name}"), request, passes());
        cases.push(match name {
            // What is of a connection has no place in HTTP/2.
            "Transfer-Encoding" | "Connection" | "Upgrade" | "Keep-Alive" => {
                case.over_http2(OverHttp2::Nothing)
            }
            "TE" => case.over_http2(OverHttp2::Malformed),
            _ => case,
        });
    }
    for name in ["X-Api-Key", "Authorization"] {
        let request = ask("POST", "/x").body("hello").trailer(name, &format!("Bearer {KEY}"));
        let expected = refused(&[401], "missing_key").then(Then::Any);
        cases.push(parts(format!("a key in the trailer {name}"), request, expected));
        let request = post("/x").trailer(name, "evil").trailer("X-Auth-User", "evil");
        cases.push(parts(format!("another key in the trailer {name}"), request, passes()));
    }
    let only = ask("POST", "/public/x").trailer("X-Auth-User", "evil");
    cases.push(parts("trailers and no body", only, passes_as(None)));
    cases
}

/// Fields by which a proxy in front would say what was asked for: we decide by the request line.
pub(super) fn claims() -> Vec<Case> {
    let mut cases = Vec::new();
    for line in [
        "X-Original-URL: /public/x",
        "X-Original-URI: /public/x",
        "X-Rewrite-URL: /public/x",
        "X-Forwarded-Uri: /public/x",
        "X-Forwarded-Path: /public/x",
        "X-Forwarded-Prefix: /public/",
        "X-Envoy-Original-Path: /public/x",
        "X-Auth-Request-Redirect: /public/x",
        "X-HTTP-Method-Override: GET",
        "X-HTTP-Method: GET",
        "X-Method-Override: GET",
        "X-Forwarded-Method: GET",
        "X-Original-Method: GET",
        "X-Forwarded-Host: app.example",
        "X-Forwarded-For: 127.0.0.1",
        "X-Real-IP: 127.0.0.1",
        "X-Forwarded-Proto: https",
    ] {
        let name = line.split(':').next().unwrap_or_default();
        let denied = get("/admin/x").lines(&[line]);
        cases.push(parts(
            format!("{name} on another's path"),
            denied,
            refused(&[403], "forbidden"),
        ));
        let without_key = ask("GET", "/x").lines(&[line]);
        let expected = refused(&[401], "missing_key");
        cases.push(parts(format!("{name} without a key"), without_key, expected));
        let method = ask("DELETE", "/read/x").key().lines(&[line]);
        let expected = refused(&[403], "forbidden");
        cases.push(parts(format!("{name} with another method"), method, expected));
    }
    for line in [
        "X-Forwarded-For: evil",
        "X_Forwarded_For: evil",
        "x.forwarded.for: evil",
        "Forwarded: for=evil",
        "X-Forwarded-Host: evil",
        "X_Forwarded_Host: evil",
        "X-Forwarded-Proto: evil",
        "X-Forwarded-Port: evil",
        "X-Forwarded-Server: evil",
        "X-Forwarded-User: evil",
        "X-Forwarded-Uri: /evil",
        "X-Request-Id: evil",
    ] {
        let request = get("/x").lines(&[line]);
        cases.push(parts(format!("a claim, {line}"), request, passes()));
    }
    cases
}
