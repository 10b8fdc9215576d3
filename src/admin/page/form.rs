//! What a form or a query says, by the names of its fields.
//!
//! Never here: whether values are allowed.

use form_urlencoded::{Serializer, parse};

use crate::redact::Secret;

/// What is never kept beyond the request that carries it.
const NOT_KEPT: [&str; 4] = ["token", "once", "revision", "force"];

/// The fields, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads `application/x-www-form-urlencoded`, a body or a query; but for a key.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let fields = parse(bytes).filter(|(name, _)| name != "key");
        Self(fields.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// The key in a body.
    pub(super) fn key(bytes: &[u8]) -> Option<Secret<Vec<u8>>> {
        let (_, key) = parse(bytes).find(|(name, _)| name == "key")?;
        let trimmed = key.trim();
        (!trimmed.is_empty()).then(|| Secret::new(trimmed.as_bytes().to_vec()))
    }

    /// What a field says, without the blanks around it; nothing if it is not there.
    pub(super) fn text(&self, name: &str) -> &str {
        let mut fields = self.0.iter();
        fields.find(|(field, _)| field == name).map_or("", |(_, value)| value.trim())
    }

    /// The same of a field that may be left empty.
    pub(super) fn some(&self, name: &str) -> Option<String> {
        Some(self.text(name)).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// Whether a field is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(field, _)| field == name)
    }

    /// The words of a field with blanks or commas between them; nothing if there are none.
    pub(super) fn words(&self, name: &str) -> Option<Vec<String>> {
        let words = self.text(name).split([' ', ',', '\n', '\r', '\t']);
        let words: Vec<_> = words.filter(|word| !word.is_empty()).map(str::to_owned).collect();
        Some(words).filter(|words| !words.is_empty())
    }

    /// What somebody typed, as a query that fills the form in again.
    pub(super) fn kept(&self) -> String {
        let kept = self
            .0
            .iter()
            .filter(|(name, value)| !NOT_KEPT.contains(&name.as_str()) && !value.trim().is_empty());
        Serializer::new(String::new()).extend_pairs(kept).finish()
    }
}

/// `path` with a query of these fields; those that are empty are left out.
pub(super) fn link<'a>(path: &str, fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut query = Serializer::new(String::new());
    for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
        query.append_pair(name, value);
    }
    match query.finish() {
        query if query.is_empty() => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_comes_again_but_for_what_belongs_to_a_session() {
        let form = Form::read(b"token=t&label=+a%26b+&user=&methods=GET%2C+HEAD&key=kw_x&once=1");
        assert_eq!(form.text("label"), "a&b");
        assert_eq!(form.some("user"), None);
        assert_eq!(form.words("methods"), Some(vec!["GET".to_owned(), "HEAD".to_owned()]));
        assert_eq!(form.words("paths"), None);
        assert_eq!(form.kept(), "label=+a%26b+&methods=GET%2C+HEAD");
        assert_eq!(link("/keys", [("q", "a b"), ("user", "")]), "/keys?q=a+b");
        assert_eq!(link("/keys", [("q", "")]), "/keys");
    }
}
