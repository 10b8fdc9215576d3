//! Blanks out secrets that stand in the file, against all advice, before its lines are shown in faults.
//!
//! It works on the text, so that it also covers files that cannot be parsed. Every byte keeps its place:
//! spans stay right. It rather blanks too much.
//!
//! Never here: whether the file is right.

use super::interpolate::variable;

/// Fields whose values are secrets, also when the name is misspelt.
const SECRET_FIELDS: [&str; 4] = ["pepper", "secret", "password", "token"];
/// What a private key in PEM stands between (RFC 7468 §2), put where the name of its file belongs.
const PEM_BEGIN: &str = "-----BEGIN ";
const PEM_END: &str = "-----END ";

/// `text` with `*` for every byte of a secret.
pub(super) fn conceal(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for (equals, _) in text.match_indices('=') {
        if is_secret(field_before(text, equals)) {
            let start = equals + 1;
            let end = start + value_len(&text[start..]);
            blank(&mut bytes[start..end]);
        }
    }
    for (scheme_end, separator) in text.match_indices("://") {
        let start = scheme_end + separator.len();
        let ends_authority = |c: char| c.is_whitespace() || matches!(c, '"' | '\'');
        let len = text[start..].find(ends_authority).unwrap_or(text.len() - start);
        if let Some(at) = text[start..start + len].rfind('@') {
            blank(&mut bytes[start..start + at]);
        }
    }
    for (start, begin) in text.match_indices(PEM_BEGIN) {
        let end = text[start..].find(PEM_END).map_or(text.len(), |len| start + len);
        blank(&mut bytes[start + begin.len()..end]);
    }
    String::from_utf8(bytes).expect("whole characters were replaced by ASCII")
}

fn field_before(text: &str, equals: usize) -> &str {
    let before = text[..equals].trim_end().trim_end_matches(['"', '\'']);
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    let start = before
        .rfind(|c| !is_name(c))
        .map_or(0, |at| at + before[at..].chars().next().map_or(0, char::len_utf8));
    &before[start..]
}

fn is_secret(field: &str) -> bool {
    let field = field.to_lowercase();
    let is_misspelt = |name: &str| {
        field.len().abs_diff(name.len()) <= 2 && strsim::damerau_levenshtein(&field, name) <= 2
    };
    SECRET_FIELDS.iter().any(|name| field.contains(name) || is_misspelt(name))
}

/// To the end of the line, or of a string over several lines; nothing of a reference to a variable.
fn value_len(text: &str) -> usize {
    let value = text.trim_start_matches([' ', '\t']);
    let indent = text.len() - value.len();
    for quotes in ["\"\"\"", "'''"] {
        if let Some(inside) = value.strip_prefix(quotes) {
            let len = inside.find(quotes).unwrap_or(inside.len());
            return indent + quotes.len() + len;
        }
    }
    for quote in ['"', '\''] {
        let quoted = value.strip_prefix(quote).and_then(|rest| rest.split_once(quote));
        if quoted.is_some_and(|(inside, _)| variable(inside).is_some()) {
            return 0;
        }
    }
    text.find(['\r', '\n']).unwrap_or(text.len())
}

fn blank(bytes: &mut [u8]) {
    for byte in bytes {
        if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            *byte = b'*';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let concealed = conceal(text);
        assert_eq!(concealed, expected);
        assert_eq!(concealed.len(), text.len());
    }

    #[test]
    fn a_pepper_in_the_file_is_blanked() {
        check("pepper = \"hunter2\" # x\nb = 1", "pepper = ********* * *\nb = 1");
        check("keys.\"pepper\" = 1234\r\n", "keys.\"pepper\" = ****\r\n");
        check("keys = { peper='a=b' }", "keys = { peper=***** *");
        check("pepper = \"never closed", "pepper = ****** ******");
        check("pepper = \"ähem\"", "pepper = *******");
    }

    #[test]
    fn a_pepper_over_several_lines_is_blanked() {
        check("pepper = \"\"\"one\ntwo\"\"\"\nb = 1", "pepper = ******\n***\"\"\"\nb = 1");
        check("pepper = '''one\ntwo", "pepper = ******\n***");
    }

    #[test]
    fn a_reference_is_no_secret() {
        for text in ["pepper = \"${PEPPER}\"\n", "pepper='${P}'", "# pepper = \"${P}\" is best"] {
            check(text, text);
        }
    }

    #[test]
    fn other_fields_are_left_alone() {
        for text in ["realm = \"pepper\"\n", "paper_path = \"x\"", "", "=", "é= 1"] {
            check(text, text);
        }
    }

    #[test]
    fn a_private_key_in_the_place_of_its_file_is_blanked() {
        check(
            "k = \"\"\"-----BEGIN X-----\nMIIE\n-----END X-----\"\"\"\nb = 1",
            "k = \"\"\"-----BEGIN ******\n****\n-----END X-----\"\"\"\nb = 1",
        );
        check("k = '-----BEGIN X-----\\nMIIE'\nb = 1", "k = '-----BEGIN *************\n* * *");
    }

    #[test]
    fn user_info_of_an_endpoint_is_blanked() {
        check("[\"http://me:p@ss@host:1/\", 1]", "[\"http://*******@host:1/\", 1]");
        check("\"http://host/\" # a@b", "\"http://host/\" # a@b");
    }
}
