//! What the API shows, as JSON; also the shapes in its OpenAPI document.
//!
//! Never here: a hash, which nobody needs to see, or a key but in [`Created`].

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::limits::Limits;
use super::rights::Actor;
use super::usage::{LastDay, LastUse, Summary};
use crate::identity::AdminScope;
use crate::keys::KeyRecord;
use crate::reload::request::{InForce, Outcome};
use crate::scopes::Scopes;
use crate::usage::HOURS;
use crate::usage::recorder::{Brief, KeyUsage};

/// A key, but for the secret itself.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Key {
    /// Its public name.
    #[schema(examples("key_2mVx81Qp"))]
    id: String,
    #[schema(value_type = State)]
    state: &'static str,
    /// Whose it is.
    user: String,
    /// What it may do.
    role: String,
    /// What people call it.
    label: String,
    /// How the secret begins: enough to recognise it.
    start: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// The methods it is narrowed to; none: all.
    allowed_methods: Vec<String>,
    /// The paths it is narrowed to, in the syntax of routes; none: all.
    allowed_paths: Vec<String>,
    /// The networks it is narrowed to; none: all.
    allowed_cidrs: Vec<String>,
    /// How fast its requests may come, on average; null: as its role says.
    #[schema(examples("100/s"))]
    rate: Option<String>,
    /// How many may come at once, after a silence; null: as many as come in a second.
    burst: Option<u32>,
    /// How many may be in flight; null: as its role says.
    concurrent: Option<u32>,
    /// How many there may be in a day of UTC; null: as its role says.
    daily: Option<u64>,
    #[schema(value_type = Option<String>, format = DateTime)]
    disabled_at: Option<Timestamp>,
    disabled_by: Option<String>,
    disabled_reason: Option<String>,
    /// Until when the secret before the last rotation is taken.
    #[schema(value_type = Option<String>, format = DateTime)]
    previous_expires_at: Option<Timestamp>,
}

/// What a key is good for now.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "the shape of a word that the domain writes itself")]
pub(super) enum State {
    Enabled,
    Disabled,
    Expired,
}

impl Key {
    pub(super) fn new(record: &KeyRecord, now: Timestamp) -> Self {
        let scopes = record.scopes.as_deref();
        let methods = scopes.map(Scopes::methods).unwrap_or_default();
        let paths = scopes.map(Scopes::paths).unwrap_or_default();
        let networks = scopes.map(Scopes::addresses).unwrap_or_default();
        Self {
            id: record.id.as_str().to_owned(),
            state: record.state(now).as_str(),
            user: record.user.as_str().to_owned(),
            role: record.role.as_str().to_owned(),
            label: record.label.as_str().to_owned(),
            start: record.start.clone(),
            created_at: record.created_at,
            expires_at: record.expires_at,
            allowed_methods: methods.iter().map(ToString::to_string).collect(),
            allowed_paths: paths.iter().map(ToString::to_string).collect(),
            allowed_cidrs: networks.iter().map(ToString::to_string).collect(),
            rate: record.limits.rate.map(|rate| rate.to_string()),
            burst: record.limits.burst,
            concurrent: record.limits.concurrent,
            daily: record.limits.daily,
            disabled_at: record.disabled_at,
            disabled_by: record.disabled_by.clone(),
            disabled_reason: record.disabled_reason.clone(),
            previous_expires_at: record.previous.map(|(_, until)| until),
        }
    }
}

/// A key and, in short, what it is used for.
#[derive(Serialize, ToSchema)]
pub(super) struct Detailed {
    #[serde(flatten)]
    pub(super) key: Key,
    /// What holds for it, its role's limits among it.
    pub(super) limits: Limits,
    #[serde(flatten)]
    pub(super) usage: Summary,
}

/// A key among others. Its usage is as it was some seconds ago.
#[derive(Serialize, ToSchema)]
pub(super) struct Listed {
    #[serde(flatten)]
    key: Key,
    /// When a request with the key last began.
    last_used: Option<LastUse>,
    /// Its requests in each of the last 24 hours; the last is the current one.
    hourly: [u64; HOURS as usize],
}

impl Listed {
    pub(super) fn new(record: &KeyRecord, brief: Brief, now: Timestamp) -> Self {
        let Brief { last, hourly } = brief;
        Self { key: Key::new(record, now), last_used: LastUse::new(last), hourly }
    }
}

/// Some keys, the newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct Page {
    pub(super) keys: Vec<Listed>,
    /// How many keys fit what was asked for, on all pages.
    pub(super) total: usize,
    /// Where the next page begins; null on the last.
    pub(super) next_cursor: Option<String>,
}

/// Whether a change is in force.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Effect {
    /// From the next request on it holds.
    effective: bool,
    /// The generation with which it came into force.
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    /// Why it is stored and not in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
}

/// What was closed.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Closed {
    /// How many requests and tunnels.
    streams: usize,
    /// How long it took until all of them had ended.
    took_ms: f64,
    /// Whether they had; what is left ends as soon as its client takes the end of its answer, or with its time.
    is_whole: bool,
}

impl Closed {
    fn of(outcome: Outcome) -> Option<Self> {
        match outcome {
            Outcome::InForce(InForce { closed, took, is_whole, .. }) => {
                let took_ms = took.as_micros() as f64 / 1e3;
                Some(Self { streams: closed, took_ms, is_whole })
            }
            Outcome::Refused | Outcome::Ending => None,
        }
    }
}

impl From<Outcome> for Effect {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::InForce(InForce { generation, .. }) => {
                Self { effective: true, generation: Some(generation), why: None }
            }
            Outcome::Refused => Self {
                effective: false,
                generation: None,
                why: Some(
                    "The change is stored, but the files have faults, and what was in force before still is; the log \
                     and `keyward check` name them.",
                ),
            },
            Outcome::Ending => Self {
                effective: false,
                generation: None,
                why: Some(
                    "The change is stored, but this process is about to end; the next one serves with it.",
                ),
            },
        }
    }
}

/// A key after a change, or, deleted, before it.
#[derive(Serialize, ToSchema)]
pub(super) struct Changed {
    #[serde(flatten)]
    key: Key,
    #[serde(flatten)]
    effect: Effect,
    /// What of the key was closed, for it is no longer good; not for a new key.
    #[serde(skip_serializing_if = "Option::is_none")]
    closed: Option<Closed>,
    /// What it was used for, with what was closed; not for a new key.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_24_hours: Option<LastDay>,
}

impl Changed {
    /// A key that was there, and what it was used for.
    pub(super) fn new(record: &KeyRecord, outcome: Outcome, usage: &KeyUsage) -> Self {
        let (closed, last_24_hours) = (Closed::of(outcome), Some(LastDay::new(usage)));
        Self { closed, last_24_hours, ..Self::made(record, outcome) }
    }

    /// A new key.
    pub(super) fn made(record: &KeyRecord, outcome: Outcome) -> Self {
        let key = Key::new(record, Timestamp::now());
        Self { key, effect: Effect::from(outcome), closed: None, last_24_hours: None }
    }
}

/// A key with a new secret: the only answer that holds one.
#[derive(Serialize, ToSchema)]
pub(super) struct Created<'a> {
    /// The secret: it is not shown again.
    #[schema(value_type = String)]
    pub(super) key: &'a str,
    #[serde(flatten)]
    pub(super) changed: Changed,
}

/// Whoever asks, and what they may.
#[derive(Serialize, ToSchema)]
pub(super) struct Me {
    user: String,
    role: String,
    key_id: String,
    /// Whose keys are managed with the key: "own" or "all".
    admin: &'static str,
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// The roles that new keys may have.
    may_grant: Vec<String>,
}

impl Me {
    pub(super) fn new(actor: &Actor, may_grant: Vec<String>) -> Self {
        Self {
            user: actor.user.as_str().to_owned(),
            role: actor.role.name().as_str().to_owned(),
            key_id: actor.key_id.as_str().to_owned(),
            admin: match actor.role.admin() {
                AdminScope::None => "none",
                AdminScope::Own => "own",
                AdminScope::All => "all",
            },
            expires_at: actor.expires_at,
            may_grant,
        }
    }
}

/// A route, and who may pass.
#[derive(Serialize, ToSchema)]
pub(super) struct Route {
    /// The path pattern.
    pub(super) path: String,
    /// What is asked for by method.
    pub(super) rules: Vec<Rule>,
}

/// What a route asks for.
#[derive(Serialize, ToSchema)]
pub(super) struct Rule {
    /// The methods; null for all that no other rule of the path names.
    pub(super) methods: Option<Vec<String>>,
    /// Everybody may pass, without a key.
    pub(super) public: bool,
    /// The roles that pass, inheritance resolved; null for any.
    pub(super) roles: Option<Vec<String>>,
    /// Names one of which the client's certificate must bear.
    pub(super) client_subject: Vec<String>,
    /// How many requests each key may send, or each address without one; null for any number.
    pub(super) limits: Option<String>,
    pub(super) upstream: String,
}

/// What would happen to a request.
#[derive(Serialize, ToSchema)]
pub(super) struct Explanation {
    /// Whether it would be forwarded.
    pub(super) allowed: bool,
    /// What the client would get, if it is refused.
    pub(super) status: Option<u16>,
    /// The case, as in the answer's body.
    pub(super) code: Option<&'static str>,
    /// The pattern of its route.
    pub(super) route: Option<String>,
    /// Where it would go.
    pub(super) upstream: Option<String>,
    /// What is looked at, in order; the last decides.
    pub(super) steps: Vec<Step>,
    /// The generation that was asked.
    pub(super) generation: u64,
}

/// One thing that is looked at.
#[derive(Serialize, ToSchema)]
pub(super) struct Step {
    /// "path", "route", "key", "scope", "rule", "certificate" or "limits".
    pub(super) step: &'static str,
    pub(super) ok: bool,
    /// What was found, for people.
    pub(super) detail: String,
}

/// Why a request is refused (RFC 9457).
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape of what `problem` writes")]
pub(super) struct Problem {
    /// `urn:keyward:problem:` and the code.
    r#type: String,
    title: String,
    status: u16,
    /// What happened and what to do, for people.
    detail: String,
    instance: String,
    /// Names the case for programs, and never changes.
    code: String,
    request_id: String,
    realm: String,
    /// What is wrong with single values.
    errors: Option<Vec<FieldFault>>,
}

/// What is wrong with one value.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape of what `problem` writes")]
pub(super) struct FieldFault {
    /// The member of the body, the parameter or the header field.
    field: String,
    message: String,
}
