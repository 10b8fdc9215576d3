//! The pages as HTML: what each shows, filled into its template.
//!
//! Every text is escaped by the template; the one exception is a drawing that is made here from numbers alone.
//!
//! Never here: HTTP, sessions, or where what is shown comes from.

use std::fmt::Write as _;

use askama::Template;

/// What surrounds a page for whoever is signed in.
pub(super) struct Frame {
    pub(super) user: String,
    pub(super) role: String,
    /// Against requests that another site made (CSRF).
    pub(super) token: String,
    /// The path of the section that is open.
    pub(super) section: &'static str,
}

impl Frame {
    fn sections(&self) -> [(&'static str, &'static str); 4] {
        [
            ("/keys", "Keys"),
            ("/audit", "Audit"),
            ("/routes", "Routes"),
            ("/explain", "What would happen?"),
        ]
    }
}

/// What is said above a page about what was just done.
pub(super) struct Notice {
    /// `good`, `bad` or `wait`.
    pub(super) tone: &'static str,
    pub(super) text: String,
}

/// An input: what is in it, and what is wrong with that.
#[derive(Default)]
pub(super) struct Field {
    pub(super) value: String,
    pub(super) error: Option<String>,
}

#[derive(Template)]
#[template(path = "sign_in.html")]
pub(super) struct SignIn {
    pub(super) frame: Option<Frame>,
    pub(super) notice: Option<Notice>,
    pub(super) next: String,
    pub(super) error: Option<String>,
}

#[derive(Default)]
pub(super) struct Filter {
    pub(super) q: String,
    pub(super) user: String,
    pub(super) role: String,
    pub(super) state: String,
}

/// A key in a list, and at the head of its own page.
pub(super) struct Row {
    pub(super) id: String,
    pub(super) label: String,
    pub(super) start: String,
    pub(super) user: String,
    pub(super) role: String,
    pub(super) state: &'static str,
    pub(super) tone: &'static str,
    pub(super) is_enabled: bool,
    pub(super) created: String,
    pub(super) last_used: String,
    pub(super) spark: String,
}

#[derive(Template)]
#[template(path = "keys.html")]
pub(super) struct Keys {
    pub(super) frame: Option<Frame>,
    pub(super) notice: Option<Notice>,
    pub(super) sees_all: bool,
    pub(super) filter: Filter,
    pub(super) roles: Vec<String>,
    pub(super) count: String,
    pub(super) rows: Vec<Row>,
    pub(super) next: Option<String>,
}

#[derive(Template)]
#[template(path = "create.html")]
pub(super) struct Create {
    pub(super) frame: Option<Frame>,
    pub(super) notice: Option<Notice>,
    pub(super) token: String,
    pub(super) once: String,
    pub(super) sees_all: bool,
    pub(super) has_errors: bool,
    pub(super) is_narrowed: bool,
    pub(super) is_limited: bool,
    pub(super) roles: Vec<String>,
    pub(super) label: Field,
    pub(super) user: Field,
    pub(super) role: Field,
    pub(super) expires: Field,
    pub(super) methods: Field,
    pub(super) paths: Field,
    pub(super) addresses: Field,
    pub(super) rate: Field,
    pub(super) burst: Field,
    pub(super) concurrent: Field,
    pub(super) daily: Field,
}

#[derive(Template)]
#[template(path = "edit.html")]
pub(super) struct Edit {
    pub(super) frame: Option<Frame>,
    pub(super) notice: Option<Notice>,
    pub(super) token: String,
    pub(super) revision: String,
    pub(super) id: String,
    pub(super) name: String,
    pub(super) has_errors: bool,
    pub(super) roles: Vec<String>,
    pub(super) label: Field,
    pub(super) role: Field,
    pub(super) expires: Field,
    pub(super) methods: Field,
    pub(super) paths: Field,
    pub(super) addresses: Field,
    pub(super) rate: Field,
    pub(super) burst: Field,
    pub(super) concurrent: Field,
    pub(super) daily: Field,
}

#[derive(Template)]
#[template(path = "reveal.html")]
pub(super) struct Reveal<'a> {
    pub(super) frame: Option<Frame>,
    pub(super) notice: Option<Notice>,
    pub(super) headline: String,
    pub(super) id: String,
    pub(super) label: String,
    pub(super) user: String,
    pub(super) secret: &'a str,
    pub(super) grace: Option<String>,
}

/// What was done to a key.
pub(super) struct Event {
    pub(super) when: String,
    pub(super) what: String,
    pub(super) key: String,
    pub(super) who: String,
    pub(super) from: String,
    pub(super) details: String,
}

#[derive(Template)]
#[template(path = "key.html")]
pub(super) struct Key {
    pub(super) frame: Option<Frame>,
    pub(super) notice: Option<Notice>,
    pub(super) token: String,
    pub(super) revision: String,
    pub(super) key: Row,
    pub(super) disabled: Option<String>,
    pub(super) old_secret: Option<String>,
    pub(super) about: Vec<(&'static str, String)>,
    pub(super) usage: Vec<(&'static str, String)>,
    pub(super) chart: String,
    pub(super) history: Vec<Event>,
}

/// What is asked before something is done.
pub(super) enum Ask {
    Reason,
    Grace,
    Nothing,
}

#[derive(Template)]
#[template(path = "confirm.html")]
pub(super) struct Confirm {
    pub(super) frame: Option<Frame>,
    pub(super) notice: Option<Notice>,
    pub(super) token: String,
    pub(super) revision: String,
    pub(super) id: String,
    pub(super) label: String,
    pub(super) headline: String,
    pub(super) lead: String,
    /// A name for the form, which makes a secret.
    pub(super) once: Option<String>,
    pub(super) error: Option<String>,
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) action: String,
    pub(super) ask: Ask,
    pub(super) value: String,
    pub(super) needs_force: bool,
    pub(super) verb: &'static str,
    pub(super) is_dangerous: bool,
}

#[derive(Template)]
#[template(path = "audit.html")]
pub(super) struct Audit {
    pub(super) frame: Option<Frame>,
    pub(super) notice: Option<Notice>,
    pub(super) count: String,
    pub(super) entries: Vec<Event>,
    pub(super) next: Option<String>,
}

pub(super) struct RouteRow {
    pub(super) path: String,
    pub(super) methods: String,
    pub(super) who: String,
    pub(super) upstream: String,
}

#[derive(Template)]
#[template(path = "routes.html")]
pub(super) struct Routes {
    pub(super) frame: Option<Frame>,
    pub(super) notice: Option<Notice>,
    pub(super) routes: Vec<RouteRow>,
}

pub(super) struct Verdict {
    pub(super) tone: &'static str,
    pub(super) status: String,
    pub(super) headline: String,
    pub(super) steps: Vec<String>,
}

#[derive(Template)]
#[template(path = "explain.html")]
pub(super) struct Explain {
    pub(super) frame: Option<Frame>,
    pub(super) notice: Option<Notice>,
    pub(super) key_id: Field,
    pub(super) method: String,
    pub(super) path: Field,
    pub(super) address: Field,
    pub(super) verdict: Option<Verdict>,
}

#[derive(Template)]
#[template(path = "failure.html")]
pub(super) struct Failure {
    pub(super) frame: Option<Frame>,
    pub(super) notice: Option<Notice>,
    pub(super) headline: String,
    pub(super) detail: String,
    pub(super) back: String,
}

/// Requests by hour, the oldest first, as a drawing of `width` to `height`.
pub(super) fn bars(hours: &[u64], width: u32, height: u32) -> String {
    let total: u64 = hours.iter().sum();
    let most = hours.iter().copied().max().unwrap_or(0).max(1);
    let step = f64::from(width) / hours.len().max(1) as f64;
    let mut drawing = format!(
        "<svg class=\"spark\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         aria-label=\"{total} requests in {} hours\">",
        hours.len(),
    );
    for (place, &count) in hours.iter().enumerate() {
        let tall = (f64::from(height) * count as f64 / most as f64).max(1.5);
        let opacity = if count == 0 { "0.25" } else { "1" };
        let (x, y) = (place as f64 * step, f64::from(height) - tall);
        write!(
            drawing,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{tall:.1}\" fill=\"currentColor\" \
             opacity=\"{opacity}\"/>",
            step * 0.7
        )
        .expect("memory takes everything");
    }
    drawing.push_str("</svg>");
    drawing
}
