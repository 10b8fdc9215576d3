//! Limits of requests, made ready to be held against a meter, and how clients are told of them: the fields
//! `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10).
//!
//! Never here: who is limited, or what happens to a request that is one too many.

use std::fmt::Write as _;
use std::sync::Arc;

use http::HeaderValue;

use super::requests::RequestLimits;

/// The time window of `daily`, in seconds.
const DAY_S: u64 = 24 * 60 * 60;
const NS_PER_S: u64 = 1_000_000_000;

/// Whose limits they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A key's, wherever it is used.
    Key,
    /// A route's: of each key there, or of each address that came without one.
    Route,
}

/// One of the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `rate`, with its burst.
    Rate,
    /// `concurrent`
    Concurrent,
    /// `daily`
    Daily,
}

impl Holder {
    /// For labels: `key`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Route => "route",
        }
    }
}

impl Limit {
    /// As files name it: `rate`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Concurrent => "concurrent",
            Self::Daily => "daily",
        }
    }
}

/// A request was one too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Whose limit it was.
    pub holder: Holder,
    /// Which.
    pub limit: Limit,
    /// After how many seconds the next may pass.
    pub retry_after_s: u32,
}

/// Limits with what is derived of them once.
#[derive(Debug, PartialEq, Eq)]
pub struct Quota {
    limits: RequestLimits,
    holder: Holder,
    /// Names the route in all generations; empty for a key's.
    route: Arc<str>,
    /// From one request to the next at the rate; 0 without one.
    interval_ns: u64,
    /// The same for a whole burst.
    burst_ns: u64,
    policy: HeaderValue,
}

/// What is left of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Which.
    pub limit: Limit,
    /// How many requests.
    pub requests: u64,
    /// In how many seconds there will be more; `None` if that is not known, or there are all.
    pub more_in_s: Option<u64>,
}

impl Quota {
    /// Of a key; nothing if nothing is limited.
    pub fn of_key(limits: RequestLimits) -> Option<Arc<Self>> {
        Self::new(limits, Holder::Key, "")
    }

    /// Of the route with this name.
    pub fn of_route(limits: RequestLimits, name: &str) -> Option<Arc<Self>> {
        Self::new(limits, Holder::Route, name)
    }

    fn new(limits: RequestLimits, holder: Holder, route: &str) -> Option<Arc<Self>> {
        if limits.is_empty() {
            return None;
        }
        let interval_ns = limits.rate.map_or(0, |rate| rate.interval_ns());
        let burst_ns = interval_ns * u64::from(limits.burst());
        let mut quota = Self {
            limits,
            holder,
            route: route.into(),
            interval_ns,
            burst_ns,
            policy: HeaderValue::from_static(""),
        };
        quota.policy = value(quota.policy_text());
        Some(Arc::new(quota))
    }

    /// The limits.
    pub fn limits(&self) -> RequestLimits {
        self.limits
    }

    /// Whose they are.
    pub fn holder(&self) -> Holder {
        self.holder
    }

    pub(super) fn route(&self) -> &Arc<str> {
        &self.route
    }

    pub(super) fn interval_ns(&self) -> u64 {
        self.interval_ns
    }

    pub(super) fn burst_ns(&self) -> u64 {
        self.burst_ns
    }

    fn policy_text(&self) -> String {
        let (limits, name) = (self.limits, self.name_start());
        let mut items = Vec::new();
        if limits.rate.is_some() {
            let window_s = self.burst_ns.div_ceil(NS_PER_S);
            items.push(format!("\"{name}rate\";q={};w={window_s}", limits.burst()));
        }
        if let Some(most) = limits.daily {
            items.push(format!("\"{name}daily\";q={most};w={DAY_S}"));
        }
        if let Some(most) = limits.concurrent {
            items.push(format!("\"{name}concurrent\";q={most};qu=\"concurrent-requests\""));
        }
        items.join(", ")
    }

    /// What the names of policies begin with: no two of one answer are the same.
    fn name_start(&self) -> &'static str {
        match self.holder {
            Holder::Key => "",
            Holder::Route => "route-",
        }
    }
}

/// `RateLimit-Policy` for a request that all of `quotas` hold for; there is at least one.
pub fn policy(quotas: &[&Quota]) -> HeaderValue {
    match quotas {
        [one] => one.policy.clone(),
        all => {
            let texts = all.iter().filter_map(|quota| quota.policy.to_str().ok());
            value(texts.collect::<Vec<_>>().join(", "))
        }
    }
}

/// `RateLimit` with what is left.
pub fn standing<'a>(left: impl IntoIterator<Item = (&'a Quota, Left)>) -> HeaderValue {
    let mut text = String::with_capacity(96);
    for (quota, Left { limit, requests, more_in_s }) in left {
        let separator = if text.is_empty() { "" } else { ", " };
        let (start, name) = (quota.name_start(), limit.as_str());
        let written = write!(text, "{separator}\"{start}{name}\";r={requests}");
        let written = written.and_then(|()| more_in_s.map_or(Ok(()), |s| write!(text, ";t={s}")));
        written.expect("a String takes everything");
    }
    value(text)
}

fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("names of ours and numbers print")
}

#[cfg(test)]
mod tests {
    use super::super::requests::Rate;
    use super::*;

    #[test]
    fn a_policy_is_a_list_of_structured_fields() {
        let all = RequestLimits {
            rate: Rate::parse("100/s"),
            burst: Some(200),
            concurrent: Some(16),
            daily: Some(10_000),
        };
        let key = Quota::of_key(all).expect("some limit");
        let route = RequestLimits { rate: Rate::parse("1/h"), ..RequestLimits::default() };
        let route = Quota::of_route(route, "/x").expect("some limit");
        let expect = r#""rate";q=200;w=2, "daily";q=10000;w=86400, "concurrent";q=16;qu="concurrent-requests""#;
        assert_eq!(policy(&[&key]), expect);
        let both = format!(r#"{expect}, "route-rate";q=1;w=3600"#);
        assert_eq!(policy(&[&key, &route]), both);
        let left = |limit, requests, more_in_s| Left { limit, requests, more_in_s };
        let left = [
            (&*key, left(Limit::Rate, 12, Some(1))),
            (&*key, left(Limit::Concurrent, 3, None)),
            (&*route, left(Limit::Rate, 0, Some(59))),
        ];
        assert_eq!(standing(left), r#""rate";r=12;t=1, "concurrent";r=3, "route-rate";r=0;t=59"#);
        assert_eq!(Quota::of_key(RequestLimits::default()), None);
    }
}
