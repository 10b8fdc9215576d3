//! Blanks out of a key file's text whatever could be a key, before a line of it is shown.
//!
//! People put the key itself where its hash belongs, and such files break in every way a file can, so
//! this works on lines, not on parsed values, and shows only what it knows to be harmless.
//!
//! Never here: whether something is wrong with the file.

use super::format::{Digest, Prefix};
use crate::diagnostics::Fault;

/// Fields whose values are public. `start` is not among them: it may hold a whole key by mistake.
const PUBLIC_FIELDS: [&str; 14] = [
    "id",
    "label",
    "user",
    "role",
    "created_at",
    "enabled",
    "expires_at",
    "disabled_at",
    "disabled_by",
    "disabled_reason",
    "allowed_methods",
    "allowed_paths",
    "allowed_cidrs",
    "previous_expires_at",
];
/// Fields whose values are public if they are digests.
const DIGEST_FIELDS: [&str; 2] = ["hash", "previous_hash"];
/// Characters after `<prefix>_` from which on something is taken for a key, and not for its start.
const KEY_LIKE_CHARS: usize = 12;

/// `text` with the same number of bytes, so that places in it stay true, and a `*` for every byte that
/// could belong to a key.
pub(super) fn mask(text: &str, prefix: &Prefix) -> String {
    let mut masked = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (shown, hidden) = line.split_at(shown_bytes(line));
        push_without_keys(&mut masked, shown, prefix);
        push_stars(&mut masked, hidden);
    }
    masked
}

/// The same for what is said of the text: the name of a field, or of a role, may be a key.
pub(super) fn mask_fault(fault: &mut Fault, prefix: &Prefix) {
    for text in [Some(&mut fault.message), fault.help.as_mut()].into_iter().flatten() {
        let mut masked = String::with_capacity(text.len());
        push_without_keys(&mut masked, text, prefix);
        *text = masked;
    }
}

/// How many bytes of `line` are certainly no key made elsewhere.
fn shown_bytes(line: &str) -> usize {
    let trimmed = line.trim();
    if trimmed.is_empty() || trimmed.starts_with('#') || matches!(trimmed, "[[keys]]" | "[keys]") {
        return line.len();
    }
    let Some((name, value)) = line.split_once('=') else {
        return 0;
    };
    let (name_bytes, name) = (name.len(), name.trim());
    let is_public = match name {
        // A second `=` is a second field, of an inline table.
        _ if PUBLIC_FIELDS.contains(&name) => !value.contains('='),
        _ if DIGEST_FIELDS.contains(&name) => begins_with_digest(value.trim()),
        _ => false,
    };
    if is_public { line.len() } else { name_bytes + 1 }
}

/// Whether `value` is a quoted digest, with nothing but a comment behind it.
fn begins_with_digest(value: &str) -> bool {
    let inner = value.strip_prefix('"').and_then(|rest| rest.split_once('"'));
    inner.is_some_and(|(digest, rest)| {
        let rest = rest.trim_start();
        Digest::parse(digest).is_ok() && (rest.is_empty() || rest.starts_with('#'))
    })
}

/// Whether `text` holds what has the shape of a key made here.
pub(super) fn holds_key(text: &str, prefix: &Prefix) -> bool {
    let mut masked = String::with_capacity(text.len());
    push_without_keys(&mut masked, text, prefix);
    masked != text
}

/// Appends `text`, except for what has the shape of a key made here.
fn push_without_keys(masked: &mut String, text: &str, prefix: &Prefix) {
    let introduction = format!("{}_", prefix.as_str());
    let mut rest = text;
    while let Some(place) = rest.find(&introduction) {
        let (before, key) = rest.split_at(place + introduction.len());
        let length = key.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(key.len());
        let (key, after) = key.split_at(length);
        masked.push_str(before);
        if length < KEY_LIKE_CHARS {
            masked.push_str(key)
        } else {
            push_stars(masked, key)
        }
        rest = after;
    }
    masked.push_str(rest);
}

fn push_stars(masked: &mut String, hidden: &str) {
    masked.extend(hidden.bytes().map(|byte| match byte {
        b'\r' | b'\n' | b'\t' | b' ' => char::from(byte),
        _ => '*',
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "hunter2hunter2";

    fn masked(text: &str) -> String {
        mask(text, &Prefix::new("kw").unwrap())
    }

    #[test]
    fn a_key_is_hidden_wherever_a_broken_file_holds_it() {
        let check = |text: &str| {
            let masked = masked(text);
            assert_eq!(masked.len(), text.len(), "{text}");
            assert!(!masked.contains(SECRET), "{masked}");
        };
        check(&format!("hash = \"{SECRET}\""));
        check(&format!("hash = \"{SECRET}"));
        check(&format!("hash = {SECRET}\n"));
        check(&format!("hash \"{SECRET}\"\n"));
        check(&format!("hash = \"\"\"\n{SECRET}\n\"\"\""));
        check(&format!("hash = \"sha256:{SECRET}\""));
        check(&format!("  \"hash\"='{SECRET}' # ä"));
        check(&format!("previous_hash = \"{SECRET}\""));
        check(&format!("key = \"{SECRET}\""));
        check(&format!("start = \"{SECRET}\""));
        check(&format!("{SECRET}\n"));
        check(&format!("keys = [{{ id = \"a\", hash = \"{SECRET}\" }}]"));
        check(&format!("label = \"a\", hash = \"{SECRET}\""));
        check(&format!("[\"{SECRET}\"]"));
        let digest = "0".repeat(64);
        check(&format!("hash = \"sha256:{digest}\" {SECRET}"));
    }

    #[test]
    fn a_key_made_here_is_hidden_in_public_fields_and_comments_too() {
        let key = format!("kw_{}", "aB3".repeat(12));
        let check = |text: &str| assert!(!masked(text).contains("aB3aB3"), "{text}");
        check(&format!("label = \"{key}\""));
        check(&format!("# {key} is Bob's"));
        check(&format!("id = \"x\" # kw_ and {key} and {key}"));
    }

    #[test]
    fn what_is_said_of_a_key_made_here_does_not_quote_it() {
        let key = format!("kw_{}", "aB3".repeat(12));
        let mut fault =
            Fault::whole(format!("unknown field `{key}`")).with_help(format!("[{key}]"));
        mask_fault(&mut fault, &Prefix::new("kw").unwrap());
        assert!(!format!("{fault:?}").contains("aB3"), "{fault:?}");
        assert!(fault.message.starts_with("unknown field `kw_*"), "{fault:?}");
    }

    #[test]
    fn what_is_public_stays() {
        let digest = "0123456789abcdef".repeat(4);
        let text = format!(
            "# Keys.\r\n\n[[keys]]\nid = \"key_a\"\nhash = \"sha256:{digest}\" # Bob's\n\
             label = \"ünïcode kw_2mVx\"\nenabled = true\n"
        );
        assert_eq!(masked(&text), text);
    }
}
