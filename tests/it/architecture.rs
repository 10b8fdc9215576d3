//! The plan of the house, held: who may import whom, what stands nowhere else, and what every file is like.
//!
//! The directions and the list of files are read from ARCHITECTURE.md, so that the page cannot go stale.
//!
//! Never here: a rule without its reason and the way out.

mod scan;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use scan::{imports, read, sources, words};

/// Lines of a file before its unit tests. Beyond them it does more than one thing.
const MAX_LINES: usize = 400;

/// A name that only some files may use.
struct Rule {
    /// Identifiers.
    names: &'static [&'static str],
    /// The paths below `src/` that the rule is about, as beginnings; empty: all.
    within: &'static [&'static str],
    /// The paths below `src/` that may use it, as beginnings.
    except: &'static [&'static str],
    /// Why, and what to do instead.
    way_out: &'static str,
}

/// What is nowhere else.
const RULES: &[Rule] = &[
    Rule {
        names: &["h2", "hyper", "hyper_util", "tokio"],
        within: &[
            "auth",
            "config",
            "diagnostics",
            "identity",
            "keys",
            "policy",
            "problem",
            "redact",
        ],
        except: &[],
        way_out: "the domain knows no runtime: take and give types of `http` and of std, and let proxy or app drive",
    },
    Rule {
        names: &["serde", "schemars", "Deserialize"],
        within: &["auth", "config", "identity", "policy", "redact"],
        except: &["config/raw"],
        way_out: "the shape of the file is mirrored in config/raw.rs alone: turn the mirror into a domain type there",
    },
    Rule {
        names: &["StatusCode"],
        within: &[],
        except: &[
            "proxy/error.rs",
            "problem.rs",
            "admin/",
            "proxy/context.rs",
            "upstream/answer.rs",
        ],
        way_out: "one table says which failure is which status: add a variant to the error in proxy/error.rs",
    },
    Rule {
        names: &["sha2", "hmac"],
        within: &[],
        except: &["keys/format.rs"],
        way_out: "how a key becomes a digest is decided once: use keys::format::Hasher",
    },
    Rule {
        names: &["rustls", "tokio_rustls"],
        within: &[],
        except: &[
            "tls/",
            "admin/listener.rs",
            "server/handshake.rs",
            "server/transport.rs",
            "upstream/opening.rs",
            "upstream/stream.rs",
        ],
        way_out: "what a handshake needs is made in tls alone: take what it makes, or ask the stream",
    },
    Rule {
        names: &["x509_cert"],
        within: &[],
        except: &["tls/certificate.rs"],
        way_out: "what a certificate says is read once: add it to tls::certificate",
    },
    Rule {
        names: &["expose"],
        within: &[],
        except: &[
            "redact.rs",
            "keys/format.rs",
            "auth/",
            "cli/keys",
            "cli/making.rs",
            "cli/demo",
            "cli/doctor/canary.rs",
            "admin/create.rs",
            "admin/idempotency.rs",
            "admin/keys.rs",
            "admin/page/reveal.rs",
        ],
        way_out: "a secret is opened where it is digested and where a new one is shown once: pass the Secret on instead",
    },
];

#[test]
fn modules_import_only_what_the_page_allows() {
    let page = page();
    let directions = directions(&page);
    let mut faults = Vec::new();
    for file in sources() {
        let module = file.module();
        let Some(allowed) = directions.get(module) else {
            faults.push(format!(
                "{}:1: the module `{module}` is not in the table of directions. Give it a line under \
                 \"Who may import whom\" in ARCHITECTURE.md, or put the file into a module that is there",
                file.shown()
            ));
            continue;
        };
        for (line, path) in imports(&file.code, &file.path) {
            let imported = path.split("::").next().unwrap_or_default();
            if imported == module || allowed.iter().any(|entry| is_below(&path, entry)) {
                continue;
            }
            faults.push(format!(
                "{}:{line}: `{module}` may not import `{path}` (it may: {}). Take what you need as an argument, \
                 move the type to the module that both may import, or, if the direction is meant, say so in ARCHITECTURE.md",
                file.shown(),
                if allowed.is_empty() { "nothing of ours".to_owned() } else { allowed.join(", ") }
            ));
        }
    }
    report(&faults);
}

#[test]
fn some_names_stand_nowhere_else() {
    let mut faults = Vec::new();
    for file in sources() {
        let is_in = |places: &[&str]| places.iter().any(|place| is_place(&file.path, place));
        for rule in RULES {
            if is_in(rule.except) || !(rule.within.is_empty() || is_in(rule.within)) {
                continue;
            }
            for (line, name) in words(&file.code).filter(|(_, word)| rule.names.contains(word)) {
                faults.push(format!(
                    "{}:{line}: `{name}` does not belong here: {}",
                    file.shown(),
                    rule.way_out
                ));
            }
        }
    }
    report(&faults);
}

#[test]
fn every_file_says_what_it_does_and_stays_readable() {
    let mut faults = Vec::new();
    for file in sources() {
        if !file.text.starts_with("//! ") {
            faults.push(format!(
                "{}:1: does not open with `//!`. Say in its first lines what it does and what it never does",
                file.shown()
            ));
        }
        let lines = file.code.lines().count();
        if lines > MAX_LINES {
            faults.push(format!(
                "{}:{}: {lines} lines before the tests, {MAX_LINES} at most. Find the second thing it does and give \
                 that a file of its own",
                file.shown(),
                MAX_LINES + 1
            ));
        }
    }
    report(&faults);
}

#[test]
fn the_page_lists_every_file() {
    let page = page();
    let listed: BTreeSet<&str> = block(&page, "The files").filter_map(first_word).collect();
    let files = sources();
    let present: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let missing = present.difference(&listed);
    let gone = listed.difference(&present);
    let faults: Vec<_> = missing
        .map(|path| {
            format!(
                "src/{path}:1: not listed. Give it a line under \"The files\" in ARCHITECTURE.md"
            )
        })
        .chain(gone.map(|path| {
            format!("ARCHITECTURE.md: lists src/{path}, which is not there. Take the line out")
        }))
        .collect();
    report(&faults);
}

fn page() -> String {
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md"))
}

/// The lines of the fenced block under a heading of the page.
fn block<'a>(page: &'a str, heading: &str) -> impl Iterator<Item = &'a str> {
    let is_heading =
        |line: &&str| line.starts_with('#') && line.trim_start_matches(['#', ' ']) == heading;
    let mut lines = page.lines();
    assert!(
        lines.any(|line| is_heading(&line)),
        "ARCHITECTURE.md has lost its heading \"{heading}\""
    );
    assert!(lines.any(|line| line.starts_with("```")), "no fenced block under \"{heading}\"");
    lines.take_while(|line| !line.starts_with("```"))
}

/// Lines like `auth, policy → keys, identity`; a module on several lines may import what any of them says.
fn directions(page: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut directions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in block(page, "Who may import whom").filter(|line| !line.trim().is_empty()) {
        let Some((importers, imported)) = line.split_once('→') else {
            panic!("not `importer → imported`: {line:?}");
        };
        let imported = imported.split(',').map(str::trim).filter(|&name| name != "nothing of ours");
        for importer in importers.split(',').map(str::trim) {
            directions.entry(importer).or_default().extend(imported.clone());
        }
    }
    directions
}

fn first_word(line: &str) -> Option<&str> {
    line.split_whitespace().next()
}

/// Whether the path of an item is `entry` or stands below it.
fn is_below(path: &str, entry: &str) -> bool {
    path.strip_prefix(entry).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Whether a file is `place` or stands below it: `keys/table.rs` and `redact.rs` are at `keys` and `redact`.
fn is_place(file: &str, place: &str) -> bool {
    file.strip_prefix(place.trim_end_matches('/'))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '.']))
}

fn report(faults: &[String]) {
    assert!(faults.is_empty(), "the plan of the house is not kept:\n\n{}\n", faults.join("\n"));
}
