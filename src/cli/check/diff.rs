//! What differs between two configurations and their keys: what a reload would change.
//!
//! Both are laid out as items with named fields, and items of one name are compared field by field.
//!
//! Never here: a digest or a pepper that is shown; that one was replaced is all that is told.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Serialize;

use super::plan::{Plan, RouteRow};
use super::settings::{PEPPER, settings};
use super::view;
use crate::config::Config;
use crate::keys::KeyRecord;
use crate::keys::format::{Digest, Hasher};
use crate::reload;
use crate::scopes::Scopes;

/// The name of the only field of a setting.
pub(super) const VALUE: &str = "value";
/// The field that tells of a key or a pepper that is another one.
const SECRET: &str = "secret";

/// A configuration and its keys.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) config: &'a Config,
    pub(super) keys: &'a [KeyRecord],
}

/// One thing that differs.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Change {
    pub(super) change: Kind,
    pub(super) what: What,
    pub(super) name: String,
    /// Of what was added or removed: all; else those that differ.
    pub(super) fields: Vec<Field>,
    /// Whether a running keyward goes on with the old until it is started anew.
    pub(super) needs_restart: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Added,
    Removed,
    Changed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    Setting,
    Role,
    Upstream,
    Route,
    Key,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Field {
    pub(super) field: &'static str,
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
}

/// Something that has a name.
struct Item {
    what: What,
    name: String,
    fields: Vec<(&'static str, String)>,
    /// Compared, never shown.
    secret: Option<Digest>,
}

/// What changes when `new` takes the place of `old`.
pub(super) fn changes(old: Side<'_>, new: Side<'_>, now: Timestamp) -> Vec<Change> {
    let (old_items, new_items) = (items(old, now), items(new, now));
    let by_name = |items: &'_ [Item]| -> HashMap<(What, String), usize> {
        let places = items.iter().enumerate();
        places.map(|(place, item)| ((item.what, item.name.clone()), place)).collect()
    };
    let (in_old, in_new) = (by_name(&old_items), by_name(&new_items));
    let mut changes = Vec::new();
    for item in &old_items {
        match in_new.get(&(item.what, item.name.clone())) {
            Some(&place) => changes.extend(changed(item, &new_items[place])),
            None => changes.push(whole(item, Kind::Removed)),
        }
    }
    let added =
        new_items.iter().filter(|item| !in_old.contains_key(&(item.what, item.name.clone())));
    changes.extend(added.map(|item| whole(item, Kind::Added)));
    changes.sort_by_key(|change| change.what as u8);
    let restart = reload::needs_restart(old.config, new.config);
    for change in &mut changes {
        change.needs_restart = change.what == What::Setting
            && restart.iter().any(|settings| is_among(&change.name, settings));
    }
    changes
}

/// Whether the setting `name` is `settings`, or belongs to the section of that name.
fn is_among(name: &str, settings: &str) -> bool {
    name.strip_prefix(settings).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

fn changed(old: &Item, new: &Item) -> Option<Change> {
    let mut fields = Vec::new();
    for ((field, from), (_, to)) in old.fields.iter().zip(&new.fields) {
        if from != to {
            fields.push(Field { field, from: Some(from.clone()), to: Some(to.clone()) });
        }
    }
    if let (Some(from), Some(to)) = (old.secret, new.secret)
        && from != to
    {
        fields.push(Field { field: SECRET, from: None, to: Some("replaced".to_owned()) });
    }
    let (what, name) = (old.what, old.name.clone());
    let differs = !fields.is_empty();
    differs.then_some(Change { change: Kind::Changed, what, name, fields, needs_restart: false })
}

fn whole(item: &Item, change: Kind) -> Change {
    let field = |(field, value): &(&'static str, String)| {
        let value = Some(value.clone());
        match change {
            Kind::Removed => Field { field, from: value, to: None },
            Kind::Added | Kind::Changed => Field { field, from: None, to: value },
        }
    };
    let fields = item.fields.iter().map(field).collect();
    Change { change, what: item.what, name: item.name.clone(), fields, needs_restart: false }
}

fn items(side: Side<'_>, now: Timestamp) -> Vec<Item> {
    let Side { config, keys } = side;
    let plan = Plan::new(config, keys, now);
    let pepper = config.keys.pepper.is_some().then(|| {
        // Two peppers are one if they digest alike; they cannot be looked at.
        Hasher::new(config.keys.pepper.clone()).digest(b"the same pepper?")
    });
    let plain = |what, name, fields| Item { what, name, fields, secret: None };
    let mut items = Vec::new();
    for (name, value) in settings(config) {
        let secret = pepper.filter(|_| name == PEPPER);
        let fields = vec![(VALUE, value)];
        items.push(Item { what: What::Setting, name: name.to_owned(), fields, secret });
    }
    for role in plan.roles {
        let inherits = view::list_or_none(&role.inherits);
        let limits = view::or_none(role.limits.as_ref());
        let admin = role.admin.to_owned();
        let fields = vec![("inherits", inherits), ("admin", admin), ("limits", limits)];
        items.push(plain(What::Role, role.name, fields));
    }
    for upstream in plan.upstreams {
        let mut fields = vec![("endpoints", upstream.shown_endpoints.join(", "))];
        fields.extend(upstream.settings);
        items.push(plain(What::Upstream, upstream.name, fields));
    }
    for route in &plan.routes {
        items.push(plain(What::Route, route_name(route), route_fields(route)));
    }
    items.extend(keys.iter().map(|key| key_item(key, now)));
    items
}

fn route_name(route: &RouteRow) -> String {
    format!("{} ({})", route.path, route.shown_methods)
}

fn route_fields(route: &RouteRow) -> Vec<(&'static str, String)> {
    vec![
        ("who may pass", view::who_may_pass(route)),
        ("upgrades", view::list_or_none(&route.upgrades)),
        ("upstream", route.upstream.clone()),
        ("ambiguous_paths", route.ambiguous_paths.to_owned()),
        ("limits", view::or_none(route.limits.as_ref())),
    ]
}

/// What a key is narrowed to.
fn all_or(entries: &[impl ToString]) -> String {
    match entries {
        [] => "all".to_owned(),
        some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

fn key_item(key: &KeyRecord, now: Timestamp) -> Item {
    let expires = key.expires_at.map_or("never".to_owned(), |end| end.to_string());
    let scopes = key.scopes.as_deref();
    let methods = scopes.map(Scopes::methods).unwrap_or_default();
    let paths = scopes.map(Scopes::paths).unwrap_or_default();
    let networks = scopes.map(Scopes::addresses).unwrap_or_default();
    let limits = (!key.limits.is_empty()).then(|| key.limits.to_string());
    let fields = vec![
        ("user", key.user.to_string()),
        ("role", key.role.to_string()),
        ("label", key.label.to_string()),
        ("state", key.state(now).as_str().to_owned()),
        ("expires", expires),
        ("methods", all_or(methods)),
        ("paths", all_or(paths)),
        ("addresses", all_or(networks)),
        ("limits", view::or_none(limits.as_ref())),
    ];
    Item { what: What::Key, name: key.id.to_string(), fields, secret: Some(key.hash) }
}
