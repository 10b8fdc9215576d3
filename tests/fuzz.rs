//! The committed corpora of the fuzz targets, replayed: what once was a finding stays fixed, and every property holds for
//! every class of input that fuzzing has found so far (CONTRIBUTING.md says how to find more).
//!
//! Never here: what is held; see `fuzz/targets/`.

#[path = "../fuzz/targets/lib.rs"]
#[expect(unreachable_pub, reason = "it is a library in the fuzz crate")]
mod targets;

use std::fs;
use std::path::Path;

/// Feeds `run` with every file of the corpus of `target`, and says which of them are findings.
fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).expect("a corpus");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files.retain(|file| {
        let input = fs::read(file).expect("a file");
        std::panic::catch_unwind(|| run(&input)).is_err()
    });
    assert!(files.is_empty(), "findings: {files:#?}");
}

macro_rules! replays {
    ($($target:ident),*) => {$(
        #[test]
        fn $target() {
            replay(stringify!($target), targets::$target::run);
        }
    )*};
}

replays!(
    config,
    credentials,
    forwarding,
    headers,
    http1,
    keys_file,
    paths,
    proxy_protocol,
    redaction
);

/// A target without a line above would be fuzzed, and its corpus never replayed.
#[test]
fn every_target_is_replayed() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = fs::read_to_string(here.join("tests/fuzz.rs")).expect("this file");
    let (_, listed) = source.split_once("replays!(\n").expect("the list");
    for entry in fs::read_dir(here.join("fuzz/fuzz_targets")).expect("the targets") {
        let name = entry.expect("a file").file_name().into_string().expect("a name");
        let target = name.strip_suffix(".rs").expect("a Rust file");
        assert!(listed.contains(&format!("    {target}")), "{target} is not replayed");
    }
}
