//! How many requests a key, or an address, may send: a request takes its share before it goes on, and what it takes of
//! the requests in flight it gives back at its end.
//!
//! What was used is in meters that all workers share; a worker holds those of its keys, so that a request of a key takes
//! no lock. Whatever has no limit is not counted.
//!
//! Never here: the arithmetic (see [`limit::meter`](crate::limit::meter)), or what a refusal looks like.

use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};

use super::context::RequestContext;
use super::error::Refusal;
use crate::limit::meter::{Meter, Moment};
use crate::limit::quota::{self, Exceeded, Left, Limit, Quota};
use crate::policy::Permit;

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// A quota, and what somebody has used of it.
#[derive(Debug)]
pub(super) struct Metered {
    pub(super) quota: Arc<Quota>,
    pub(super) meter: Arc<Meter>,
}

/// What a request has taken, until it ends, or why it could not.
#[derive(Debug)]
pub(super) struct Share {
    /// Of the key's, and of the route's; at least one.
    of: [Option<Rc<Metered>>; 2],
    refused: Option<Exceeded>,
}

/// Takes the share of a request that `permit` lets on, of all that is limited, or of nothing.
pub(super) fn take(permit: &Permit, context: &mut RequestContext) -> Result<(), Refusal> {
    let of_key = permit.identity().and_then(|identity| identity.quota());
    if of_key.is_none() && permit.quota().is_none() {
        return Ok(());
    }
    let now = context.moment();
    let is_by_key = permit.identity().is_some();
    let metered = |quota: Option<&Arc<Quota>>| quota.map(|q| context.metered(q, is_by_key, now));
    let share = Share::take([metered(of_key), metered(permit.quota())], now);
    let refused = share.refused;
    context.hold_share(share);
    refused.map_or(Ok(()), |exceeded| Err(Refusal::RateLimited(exceeded)))
}

impl Share {
    fn take(of: [Option<Rc<Metered>>; 2], now: Moment) -> Box<Self> {
        let admit = |Metered { quota, meter }: &Metered| meter.admit(quota, now).err();
        let [key, route] = [0, 1].map(|place| of[place].as_deref());
        let mut refused = key.and_then(admit);
        if refused.is_none() {
            refused = route.and_then(admit);
            if let (Some(_), Some(Metered { quota, meter })) = (refused, key) {
                meter.give_back(quota, now);
            }
        }
        Box::new(Self { of, refused })
    }

    /// Why nothing was taken, if it was not.
    pub(super) fn refused(&self) -> Option<Exceeded> {
        self.refused
    }

    fn all(&self) -> impl Iterator<Item = &Metered> {
        self.of.iter().flatten().map(|metered| &**metered)
    }

    /// Tells the client, in the place of what an upstream says of its own limits: nobody could tell those apart.
    pub(super) fn tell(&self, headers: &mut HeaderMap, now: Moment) {
        let quotas: Vec<&Quota> = self.all().map(|metered| &*metered.quota).collect();
        headers.insert(RATELIMIT_POLICY, quota::policy(&quotas));
        let standing = match self.refused {
            // Of the others it would be read, too, when to come back.
            Some(Exceeded { holder, limit, retry_after_s }) => {
                let more_in_s = (limit != Limit::Concurrent).then(|| retry_after_s.into());
                let left = Left { limit, requests: 0, more_in_s };
                let exceeded = quotas.into_iter().filter(|quota| quota.holder() == holder);
                quota::standing(exceeded.map(|quota| (quota, left)))
            }
            None => quota::standing(self.all().flat_map(|Metered { quota, meter }| {
                meter.left(quota, now).map(|left| (&**quota, left))
            })),
        };
        headers.insert(RATELIMIT, standing);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.refused.is_none() {
            self.all().for_each(|Metered { quota, meter }| meter.leave(quota));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::requests::{Rate, RequestLimits};

    #[test]
    fn what_the_route_refuses_uses_nothing_of_the_keys() {
        let limits = |burst| RequestLimits {
            rate: Rate::parse("1/h"),
            burst: Some(burst),
            concurrent: Some(burst),
            daily: Some(burst.into()),
        };
        let metered = |quota| Rc::new(Metered { quota, meter: Arc::default() });
        let key = metered(Quota::of_key(limits(2)).expect("a limit"));
        let route = metered(Quota::of_route(limits(1), "/x").expect("a limit"));
        let now = Moment { ns: 0, unix_s: 0 };
        let take =
            |of: [&Rc<Metered>; 2]| Share::take(of.map(|metered| Some(Rc::clone(metered))), now);
        let left = |metered: &Metered| {
            let left = metered.meter.left(&metered.quota, now);
            left.map(|left| left.requests).collect::<Vec<_>>()
        };
        let first = take([&key, &route]);
        assert_eq!((first.refused, left(&key), left(&route)), (None, vec![1, 1, 1], vec![0, 0, 0]));
        let second = take([&key, &route]);
        assert_eq!(second.refused.map(|exceeded| exceeded.limit), Some(Limit::Concurrent));
        assert_eq!(left(&key), [1, 1, 1]);
        drop(first);
        drop(second);
        assert_eq!((left(&key), left(&route)), (vec![1, 1, 2], vec![0, 0, 1]));
        let third = take([&key, &route]);
        assert_eq!(third.refused.map(|exceeded| exceeded.limit), Some(Limit::Daily));
        assert_eq!(left(&key), [1, 1, 2]);
        let elsewhere = Share::take([Some(Rc::clone(&key)), None], now);
        assert_eq!((elsewhere.refused, left(&key)), (None, vec![0, 0, 1]));
    }
}
