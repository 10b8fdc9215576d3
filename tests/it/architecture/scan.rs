//! The sources as a text to search: which paths a file imports, which names it uses.
//!
//! Comments, literals and the unit tests at a file's foot are left out; every line keeps its number.
//!
//! Never here: the rules, or a parser of Rust.

use std::fs;
use std::path::Path;

/// A file below `src/`.
pub(super) struct Source {
    /// Below `src/`: `keys/table.rs`.
    pub(super) path: String,
    /// As it stands.
    pub(super) text: String,
    /// The text without comments, literals and unit tests; every line at its place.
    pub(super) code: String,
}

impl Source {
    /// Its top module: `keys`, `main`.
    pub(super) fn module(&self) -> &str {
        let top = self.path.split('/').next().unwrap_or_default();
        top.strip_suffix(".rs").unwrap_or(top)
    }

    /// As it is named in a failure.
    pub(super) fn shown(&self) -> String {
        format!("src/{}", self.path)
    }
}

/// Every file below `src/`, but not those that hold only tests.
pub(super) fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of our own sources") {
            let path = entry.expect("an entry of our own sources").path();
            if path.is_dir() && !path.ends_with("tests") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("tests.rs")
            {
                let text = read(&path);
                let below = path.strip_prefix(&root).expect("it was found below the root");
                sources.push(Source {
                    path: below.display().to_string(),
                    code: code_of(&text),
                    text,
                });
            }
        }
    }
    assert!(sources.len() > 10, "the scan has lost the sources: found {}", sources.len());
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

/// The text of a file that must be there.
pub(super) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `text` up to its unit tests, with comments and literals blanked out.
fn code_of(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
    let mut rest = &text[..end];
    let mut code = String::with_capacity(end);
    while let Some(first) = rest.chars().next() {
        let length = opaque_length(rest);
        let (taken, after) = rest.split_at(if length == 0 { first.len_utf8() } else { length });
        if length == 0 {
            code.push(first);
        } else {
            code.extend(taken.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        rest = after;
    }
    code
}

/// How many bytes at the beginning of `text` are a comment or a literal; 0: it begins with code.
fn opaque_length(text: &str) -> usize {
    let until = |end: &str, from: usize| {
        text[from..].find(end).map_or(text.len(), |at| from + at + end.len())
    };
    match text.as_bytes() {
        [b'/', b'/', ..] => text.find('\n').unwrap_or(text.len()),
        [b'/', b'*', ..] => {
            let mut depth = 0;
            for (at, pair) in text.as_bytes().windows(2).enumerate() {
                depth += i32::from(pair == b"/*") - i32::from(pair == b"*/");
                if depth == 0 {
                    return at + 2;
                }
            }
            text.len()
        }
        [b'r', b'"' | b'#', ..] => {
            let hashes = text[1..].bytes().take_while(|&byte| byte == b'#').count();
            let is_string = text.as_bytes().get(1 + hashes) == Some(&b'"');
            if is_string { until(&format!("\"{}", "#".repeat(hashes)), 2 + hashes) } else { 0 }
        }
        [b'"', ..] => {
            let mut escaped = false;
            let end = text[1..].find(|c| {
                let is_end = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                is_end
            });
            end.map_or(text.len(), |at| at + 2)
        }
        [b'\'', b'\\', ..] => until("'", 3),
        [b'\'', ..] => {
            // A lifetime has no second quote right behind its first character.
            let after = text.char_indices().nth(2);
            after.filter(|&(_, c)| c == '\'').map_or(0, |(at, _)| at + 1)
        }
        _ => 0,
    }
}

/// Every path that `code` takes from the crate, from the top module on, with its line.
pub(super) fn imports(code: &str, file: &str) -> Vec<(usize, String)> {
    let home: Vec<&str> =
        file.trim_end_matches(".rs").trim_end_matches("/mod").split('/').collect();
    let mut found = Vec::new();
    let mut rest = 0;
    for (line, word) in words(code) {
        let at = offset_of(code, word);
        let root = match word {
            "crate" => Some(0),
            "keyward" if file == "main.rs" => Some(0),
            "super" => Some(home.len().saturating_sub(1)),
            _ => None,
        };
        let (Some(mut depth), true) = (root, at >= rest) else { continue };
        let Some(mut tree) = code[at + word.len()..].strip_prefix("::") else { continue };
        while let Some(above) = tree.strip_prefix("super::") {
            depth = depth.saturating_sub(1);
            tree = above;
        }
        rest = code.len() - tree.len();
        let prefix = home[..depth].iter().map(|segment| format!("{segment}::")).collect();
        let mut paths = Vec::new();
        expand(tree, prefix, &mut paths);
        found.extend(paths.into_iter().map(|path| (line, path)));
    }
    found
}

/// Expands the use tree (RFC 2128) at the beginning of `text`; gives back what follows it.
fn expand<'a>(text: &'a str, prefix: String, paths: &mut Vec<String>) -> &'a str {
    let mut text = text.trim_start();
    if let Some(group) = text.strip_prefix('{') {
        text = group.trim_start();
        while !text.is_empty() && !text.starts_with('}') {
            text = expand(text, prefix.clone(), paths).trim_start();
            text = text.split_once([',', '}']).map_or("", |(alias, after)| {
                let closes = text.as_bytes().get(alias.len()) == Some(&b'}');
                if closes { &text[alias.len()..] } else { after.trim_start() }
            });
        }
        return text.strip_prefix('}').unwrap_or(text);
    }
    let (name, after) = text.split_at(text.find(|c| !is_word(c)).unwrap_or(text.len()));
    let path = prefix + name;
    match after.strip_prefix("::") {
        Some(more) if !name.is_empty() && more.starts_with(|c| is_word(c) || c == '{') => {
            expand(more, path + "::", paths)
        }
        _ => {
            paths.push(path.trim_end_matches("::").to_owned());
            after
        }
    }
}

/// Every identifier, keyword and number of `code`, with its line.
pub(super) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let by_line = code.lines().zip(1..);
    by_line.flat_map(|(text, line)| {
        text.split(|c| !is_word(c)).filter(|word| !word.is_empty()).map(move |word| (line, word))
    })
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Where `part`, a slice of `whole`, begins in it.
fn offset_of(whole: &str, part: &str) -> usize {
    part.as_ptr().addr() - whole.as_ptr().addr()
}

#[test]
fn the_scan_sees_every_way_to_write_an_import() {
    let check = |path: &str, text: &str, expect: &[&str]| {
        let found: Vec<_> =
            imports(&code_of(text), path).into_iter().map(|(_, path)| path).collect();
        assert_eq!(found, expect, "in {path}: {text}");
    };
    check("app.rs", "use crate::keys;", &["keys"]);
    check(
        "app.rs",
        "use crate::keys::{self, table::KeyTable as T};",
        &["keys::self", "keys::table::KeyTable"],
    );
    check("app.rs", "use crate::{\n  auth,\n  keys::table,\n};", &["auth", "keys::table"]);
    check("app.rs", "fn f(x: &crate::keys::Id) -> crate::auth::Y<'_> {}", &["keys::Id", "auth::Y"]);
    check("app.rs", "pub(crate) use crate::keys::*;", &["keys"]);
    check("app.rs", "use super::keys;", &["keys"]);
    check("keys/mod.rs", "use super::auth::X;", &["auth::X"]);
    check("keys/table.rs", "use super::format::X;", &["keys::format::X"]);
    check("keys/table.rs", "use super::super::auth;", &["auth"]);
    check("main.rs", "keyward::cli::run()", &["cli::run"]);
    check("app.rs", "// crate::a\n/* crate::b /* */ crate::c */ \"crate::d \\\" crate::e\"", &[]);
    check("app.rs", "r#\"crate::a \" \"# crate::b", &["b"]);
    check("app.rs", "'\"' crate::a '\\'' crate::b::<'x>()", &["a", "b"]);
    check("app.rs", "crate::a;\n#[cfg(test)]\nmod tests {\n    use crate::b;\n}", &["a"]);
}
