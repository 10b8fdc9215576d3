//! `/routes` and `/explain`: who may pass where, and what would happen to a request.
//!
//! Never here: a decision (see [`explain`](crate::admin::explain)).

use std::sync::Arc;

use axum::response::Response;
use http::{Method, StatusCode};

use super::create::Fields;
use super::html;
use super::views::{Explain, RouteRow, Routes, Verdict};
use super::visit::Visit;
use crate::admin::State;
use crate::admin::explain::{Parameters, answer, passable};
use crate::admin::refusal::{Answer, Refusal};
use crate::admin::view::{Explanation, Rule};

/// Shows the routes.
pub(super) async fn routes(visit: Visit, state: Arc<State>) -> Answer<Response> {
    let actor = visit.acting(&Method::GET, "/api/v1/routes")?;
    let snapshot = state.shared.current().load_full();
    let mut rows = Vec::new();
    for route in passable(&snapshot, &actor) {
        rows.extend(route.rules.iter().map(|rule| row(&route.path, rule)));
    }
    let view = Routes { frame: visit.frame("/routes"), notice: None, routes: rows };
    Ok(html(StatusCode::OK, &view))
}

fn row(path: &str, rule: &Rule) -> RouteRow {
    let mut who = match &rule.roles {
        _ if rule.public => "everybody, without a key".to_owned(),
        None => "any valid key".to_owned(),
        Some(roles) => roles.join(", "),
    };
    if !rule.client_subject.is_empty() {
        who += &format!("; with a certificate for {}", rule.client_subject.join(" or "));
    }
    RouteRow {
        path: path.to_owned(),
        methods: rule.methods.as_ref().map_or_else(|| "any other".to_owned(), |m| m.join(" ")),
        who,
        upstream: rule.upstream.clone(),
    }
}

/// Asks for a request, and says what would happen to it.
pub(super) async fn explain(visit: Visit, state: Arc<State>) -> Answer<Response> {
    let actor = visit.acting(&Method::GET, "/api/v1/explain")?;
    let form = &visit.form;
    let method = form.some("method").unwrap_or_else(|| "GET".to_owned());
    let told = form.has("path").then(|| {
        let asked = Parameters {
            key_id: form.some("key_id"),
            method: method.clone(),
            path: form.text("path").to_owned(),
            address: form.some("address"),
        };
        answer(&state.shared.current().load_full(), &actor, asked).map_err(
            |refusal| match refusal {
                Refusal::NotFound => {
                    Refusal::invalid("key_id", "is of no key, or of none that you may see")
                }
                other => other,
            },
        )
    });
    let (told, refusal) = match told {
        None => (None, None),
        Some(Ok(told)) => (Some(told), None),
        Some(Err(refusal)) => (None, Some(refusal)),
    };
    let fields = Fields::new(form, refusal.as_ref());
    let view = Explain {
        frame: visit.frame("/explain"),
        notice: fields.notice(),
        key_id: fields.field("key_id", &["key_id"]),
        method,
        path: fields.field("path", &["path"]),
        address: fields.field("address", &["address"]),
        verdict: told.map(verdict),
    };
    let status = refusal.map_or(StatusCode::OK, |refusal| refusal.problem().status);
    Ok(html(status, &view))
}

fn verdict(told: Explanation) -> Verdict {
    let (tone, status, headline) = if told.allowed {
        let upstream = told.upstream.unwrap_or_default();
        ("good", "allowed".to_owned(), format!("It would go to the upstream {upstream}"))
    } else {
        let status = told.status.map(|status| status.to_string()).unwrap_or_default();
        let status = format!("{status} {}", told.code.unwrap_or_default());
        ("bad", status, "It would be refused".to_owned())
    };
    let steps = told.steps.into_iter().map(|step| {
        let ok = if step.ok { "yes" } else { "no" };
        format!("{}: {ok} – {}", step.step, step.detail)
    });
    Verdict { tone, status, headline, steps: steps.collect() }
}
