//! The OpenAPI document is true: whatever follows from it is answered as it says, and nothing is answered with a fault of ours.

use std::process::Command;

use super::{Desk, expect};

const SCHEMATHESIS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/.tools/schemathesis/bin/schemathesis");

/// Has schemathesis try what follows from the document, as the admin. Every answer is held against it.
#[track_caller]
fn try_everything(desk: &Desk, words: &[&str]) {
    let output = Command::new(SCHEMATHESIS)
        .arg("run")
        .arg(format!("http://{}/api/v1/openapi.json", desk.address))
        .args(["--header", &format!("Authorization: Bearer {}", desk.admin.key)])
        // A schema cannot say all that makes a value a good one. And who tries wrong keys has to wait.
        .args(["--checks=all", "--exclude-checks=positive_data_acceptance,ignored_auth"])
        .args(["--max-examples=25", "--generation-deterministic", "--seed=1", "--no-color"])
        .args(words)
        .current_dir(desk.kw.folder().join("logs"))
        .output()
        .expect("`make test` installs schemathesis");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("No issues found") || said.contains(" passed"), "{said}");
    assert_eq!(desk.probe("/healthz").status(), 200);
    assert!(!desk.kw.stderr().contains("panicked"), "{}", desk.kw.stderr());
}

#[test]
fn whatever_follows_from_the_document_is_answered_as_it_says() {
    let desk = Desk::new();
    // First what leaves the key that is used as it is.
    try_everything(
        &desk,
        &[
            "--exclude-method=DELETE",
            "--exclude-method=PATCH",
            "--exclude-path-regex=disable|rotate",
        ],
    );
    expect(&desk.get(&desk.admin, "/api/v1/me"), 200, "");
    try_everything(&desk, &[]);
}

#[test]
fn the_document_describes_what_is_there() {
    let desk = Desk::new();
    let document = expect(&desk.probe("/api/v1/openapi.json"), 200, "");
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().expect("an object");
    assert!(paths.len() >= 9, "{:?}", paths.keys());
    for (path, operations) in paths {
        for (method, operation) in operations.as_object().expect("an object") {
            let line = format!("{} {}", method.to_uppercase(), path.replace("{id}", "key_none"));
            let answer = desk.send(&format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
            let needs_key = !operation["security"].is_null();
            assert_eq!(answer.status() == 401, needs_key, "{line}: {}", answer.head);
            assert!(answer.status() != 405 && answer.code() != "not_found", "{line}");
        }
    }
}
