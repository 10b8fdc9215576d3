//! Paths that name something else for the upstream than for whoever decides: the way around a rule. CVE-2021-29492,
//! CVE-2021-32779, CVE-2026-42274, CVE-2026-34908, CVE-2026-27587.
//!
//! Never here: targets that name another server.

use super::case::{Case, OverHttp2, ask, get, malformed, parts, passes, passes_as, refused};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let ambiguous = || refused(&[400], "ambiguous_path");
    // From what is public, or a viewer's, to what is an admin's.
    for way in [
        "../",
        "./../",
        ".././",
        "%2e%2e/",
        "%2E%2E/",
        ".%2e/",
        "%2e./",
        "..%2f",
        "..%2F",
        "%2e%2e%2f",
        "..;/",
        "..;x=y/",
        "..;x;y/",
        "%2e%2e;/",
        "..%3b/",
        "..%3bx/",
        "..\\",
        "..%5c",
        "..%5C",
        "%2e%2e%5c",
        "..%00/",
        "..%0d/",
        "..%09/",
        "..%252f",
        "%252e%252e/",
        "%252e%252e%252f",
        "%25252e%25252e/",
        "..%c0%af",
        "%c0%ae%c0%ae/",
        "%e0%80%ae%e0%80%ae/",
        "..%ef%bc%8f",
        ".//../",
        "//../",
        "..//",
        "....//../",
        "x/../../",
        "x/..;/../",
        ";/../",
        ";x/../",
        "%3b/../",
        "..%u002f",
        "%u002e%u002e/",
        "..%",
        "..%2/",
        "..%zz/",
        "%2e/../",
        "./",
        "%2e/",
        ".;/",
        "/",
        "\\",
        "%5c",
        "%2f",
    ] {
        let expected = || match way {
            // A slash of another width is a character like any other.
            "..%ef%bc%8f" => passes_as(None),
            _ => ambiguous(),
        };
        let target = format!("/public/{way}admin/x");
        cases.push(parts(format!("{target} without a key"), ask("GET", &target), expected()));
        let target = format!("/x/{way}admin/x");
        let expected = if way == "..%ef%bc%8f" { passes() } else { ambiguous() };
        cases.push(parts(format!("{target} of a viewer"), get(&target), expected));
    }
    for target in [
        "//admin/x",
        "///admin/x",
        "/./admin/x",
        "/.//admin/x",
        "/;/admin/x",
        "/;x/admin/x",
        "/x//admin",
        "/admin;/x",
        "/admin;x=1/x",
        "/admin%3b/x",
        "/admin/..;/x",
        "/admin%2fx",
        "/admin%2Fx",
        "/admin\\x",
        "/admin%5cx",
        "/admin%00/x",
        "/admin%0a/x",
        "/admin%0d%0aX-Evil:%201/x",
        "/admin%c2%85/x",
        "/admin%252fx",
        "/\\admin/x",
        "/%5cadmin/x",
        "/%2fadmin/x",
        "/%2e/admin/x",
        "/%00/admin/x",
        "/..",
        "/.",
        "/..;",
        "/x/..",
        "/x/.",
        "/x/%2e%2e",
        "/x/;",
        "/x/;y",
        "/x//",
        "/x%ff",
        "/x%80",
        "/x%ed%a0%80",
        "/x%f4%90%80%80",
        "/x%fe%ff",
    ] {
        cases.push(parts(format!("{target} of a viewer"), get(target), ambiguous()));
    }
    for target in [
        "/admin/x",
        "/%61dmin/x",
        "/a%64min/x",
        "/%61%64%6d%69%6e/x",
        "/admin",
        "/admin/",
        "/admin?/public/x",
        "/admin/x?../public",
        "/%61dmin?x",
    ] {
        cases.push(parts(
            format!("{target} is an admin's"),
            get(target),
            refused(&[403], "forbidden"),
        ));
    }
    for target in [
        "/x%20y",
        "/caf%C3%A9",
        "/.well-known/x",
        "/...",
        "/x..y",
        "/x/~y",
        "/x/%7Ey",
        "/x:y@z!$&'()*+,=",
        "/100%25",
        "/x?a=../..&b=//&c=%2f%00;d",
        "/x?",
        "/x?a=%zz",
        "/x?/../admin",
        "/x?a?b",
        "/ADMIN/x",
        "/Admin/x",
        "/administrator/x",
        "/x/admin",
    ] {
        let expected = passes().with(format!("GET {target} HTTP/1.1\r\n"));
        cases.push(parts(format!("{target} passes as it is"), get(target), expected));
    }
    for target in
        ["/x#", "/x#y", "/public/x#/../../admin", "/#/admin/x", "/x?a#b", "/public/x?#/admin"]
    {
        let case = parts(format!("{target} has a fragment"), get(target), malformed());
        // There it is gone before we see it, for whoever decides and for the upstream alike.
        cases.push(case.over_http2(OverHttp2::Other(passes().without("#"))));
    }
    for target in ["/x<y>", "/x>y", "/x`y", "/x?{\"a\":1}"] {
        let case = parts(format!("{target} is no target"), get(target), malformed());
        cases.push(case.over_http2(OverHttp2::Malformed));
    }
    for target in ["/\u{e9}", "/\u{ff0f}admin", "/x/\u{ff0e}\u{ff0e}/admin/x"] {
        cases.push(parts(format!("{target} is not ASCII"), get(target), ambiguous()));
    }
    // No part of a URI, and sent all the same, by browsers too; nobody reads them in another way.
    for target in ["/x\"y", "/x^y", "/x{y}", "/x|y", "/x?\u{e9}"] {
        let expected = passes().with(format!("GET {target} HTTP/1.1\r\n"));
        cases.push(parts(format!("{target} passes as it is"), get(target), expected));
    }
    cases
}
