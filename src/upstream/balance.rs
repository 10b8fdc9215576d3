//! Which endpoint of an upstream a request goes to. Every worker decides for itself; what it must know of the
//! others is in the endpoints.
//!
//! Never here: whether a request may be tried again, or what happens to one that finds no endpoint.

use std::cell::{Cell, RefCell};

use super::settings::Balance;
use super::{Member, Upstream};

/// A worker's way to choose.
#[derive(Debug)]
pub struct Balancer {
    /// Whose turn it is in each upstream's round, by [`Upstream::place`].
    turns: RefCell<Vec<usize>>,
    random: Random,
}

/// The members of an upstream that a request was sent to already; nearly always none.
#[derive(Debug, Default)]
pub struct Tried(Vec<usize>);

impl Tried {
    /// Adds the member at `place`.
    pub fn add(&mut self, place: usize) {
        self.0.push(place);
    }

    fn has(&self, place: usize) -> bool {
        self.0.contains(&place)
    }
}

impl Balancer {
    /// # Errors
    /// The operating system has no randomness.
    pub fn new() -> Result<Self, getrandom::Error> {
        Ok(Self { turns: RefCell::default(), random: Random(Cell::new(getrandom::u64()?)) })
    }

    /// The place of the next member that was not tried; `None` when all were. `caller` is a [`hash`] of whose
    /// request it is.
    pub fn pick(
        &self,
        upstream: &Upstream,
        tried: &Tried,
        caller: impl FnOnce() -> u64,
    ) -> Option<usize> {
        let takes = |place: usize| !tried.has(place);
        if upstream.members.len() == 1 {
            return takes(0).then_some(0);
        }
        match upstream.settings.balance {
            Balance::RoundRobin => self.in_turn(upstream, takes),
            Balance::LeastRequest => self.less_busy_of_two(upstream, takes),
            Balance::HashUser => highest(upstream, caller(), takes),
        }
    }

    /// The round goes on behind whoever is picked, so that those left out leave no burden to their neighbours.
    fn in_turn(&self, upstream: &Upstream, takes: impl Fn(usize) -> bool) -> Option<usize> {
        let mut turns = self.turns.borrow_mut();
        if turns.len() <= upstream.place {
            turns.resize_with(upstream.place + 1, || self.random.next() as usize);
        }
        let turn = &mut turns[upstream.place];
        let (begin, step) = first_from(&upstream.round, *turn, takes)?;
        *turn = begin + step + 1;
        Some(upstream.round[(begin + step) % upstream.round.len()].into())
    }

    /// Drawn from the round, so by weight: where nobody is busy, the weights alone decide.
    fn less_busy_of_two(
        &self,
        upstream: &Upstream,
        takes: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let draw = |takes: &dyn Fn(usize) -> bool| {
            let (begin, step) = first_from(&upstream.round, self.random.next() as usize, takes)?;
            Some(usize::from(upstream.round[(begin + step) % upstream.round.len()]))
        };
        let first = draw(&takes)?;
        let Some(second) = draw(&|place| place != first && takes(place)) else {
            return Some(first);
        };
        let [one, other] = [first, second].map(|place| &upstream.members[place]);
        let busy = |member: &Member, by: u32| member.endpoint.in_use() as u64 * u64::from(by);
        let is_busier = busy(one, other.weight) > busy(other, one.weight);
        Some(if is_busier { second } else { first })
    }
}

/// Where to begin in `round`, and how many steps on the first stands that `takes` agrees to.
fn first_from(round: &[u16], turn: usize, takes: impl Fn(usize) -> bool) -> Option<(usize, usize)> {
    let begin = turn % round.len();
    let step = (0..round.len()).find(|step| takes(round[(begin + step) % round.len()].into()))?;
    Some((begin, step))
}

/// Weighted rendezvous: every member draws a number for `caller`, and the highest wins. When one goes, only its
/// own callers move; when it comes back, they come back.
fn highest(upstream: &Upstream, caller: u64, takes: impl Fn(usize) -> bool) -> Option<usize> {
    let drawn = |member: &Member| {
        // In (0, 1), and for each caller another one.
        let number = ((mix(caller ^ member.seed) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        f64::from(member.weight) / -number.ln()
    };
    let members = upstream.members.iter().enumerate().filter(|(place, _)| takes(*place));
    let drawn = members.map(|(place, member)| (place, drawn(member)));
    drawn.max_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(place, _)| place)
}

/// A number for `bytes`: the same in every process, so that several proxies agree. FNV-1a.
pub fn hash(bytes: &[u8]) -> u64 {
    let add = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, add))
}

/// Every bit of the result depends on every bit of `number` (the finalizer of SplitMix64).
fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Numbers that need be even, not secret (SplitMix64).
#[derive(Debug)]
struct Random(Cell<u64>);

impl Random {
    fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        mix(state)
    }
}

/// The places of members of these weights in the order in which they take turns: each as often as its weight
/// says, as far apart as can be (nginx's smooth weighted round robin).
pub(super) fn round(weights: &[u32]) -> Box<[u16]> {
    let common = weights.iter().fold(0, |common, &weight| greatest_divisor(common, weight)).max(1);
    let weights: Vec<i64> = weights.iter().map(|weight| i64::from(weight / common)).collect();
    let total: i64 = weights.iter().sum();
    let mut credit = vec![0; weights.len()];
    let next = |_| {
        credit.iter_mut().zip(&weights).for_each(|(credit, weight)| *credit += weight);
        let richest = (0..credit.len()).rev().max_by_key(|&place| credit[place])?;
        credit[richest] -= total;
        u16::try_from(richest).ok()
    };
    (0..total).filter_map(next).collect()
}

fn greatest_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Registry;
    use crate::upstream::settings::{Address, Settings};

    fn upstream(balance: Balance, weights: &[u32]) -> Upstream {
        let endpoint = |(number, &weight): (usize, &u32)| {
            let address = Address::Tcp { host: format!("host{number}"), port: 80 };
            (address, weight)
        };
        let endpoints: Vec<_> = weights.iter().enumerate().map(endpoint).collect();
        Upstream::new(&Registry::default(), 0, "app", &endpoints, Settings { balance })
    }

    fn balancer() -> Balancer {
        Balancer { turns: RefCell::new(vec![0]), random: Random(Cell::new(7)) }
    }

    /// How often each member is picked by `count` requests, each of another caller, if those in `tried` cannot be.
    fn shares(upstream: &Upstream, tried: &[usize], count: u32) -> Vec<u32> {
        let balancer = balancer();
        let tried = Tried(tried.to_vec());
        let mut shares = vec![0; upstream.members.len()];
        for number in 0..count {
            let caller = || hash(format!("user{number}").as_bytes());
            shares[balancer.pick(upstream, &tried, caller).expect("one was not tried")] += 1;
        }
        shares
    }

    #[test]
    fn a_round_spreads_its_turns() {
        let check = |weights: &[u32], expect: &[u16]| assert_eq!(*round(weights), *expect);
        check(&[1], &[0]);
        check(&[1, 1, 1], &[0, 1, 2]);
        check(&[100, 100], &[0, 1]);
        check(&[5, 1, 1], &[0, 0, 1, 0, 2, 0, 0]);
        check(&[2, 4], &[1, 0, 1]);
    }

    #[test]
    fn turns_follow_the_weights_exactly() {
        assert_eq!(shares(&upstream(Balance::RoundRobin, &[1, 3, 2]), &[], 600), [100, 300, 200]);
    }

    #[test]
    fn who_is_left_out_leaves_no_burden_to_its_neighbour() {
        let equal = upstream(Balance::RoundRobin, &[1, 1, 1, 1]);
        assert_eq!(shares(&equal, &[1], 300), [100, 0, 100, 100]);
        let least = upstream(Balance::LeastRequest, &[1, 1, 1]);
        assert_eq!(shares(&least, &[0, 2], 9), [0, 9, 0]);
    }

    #[test]
    fn all_that_were_tried_are_never_picked() {
        for balance in [Balance::RoundRobin, Balance::LeastRequest, Balance::HashUser] {
            for weights in [&[1][..], &[1, 2]] {
                let tried = Tried((0..weights.len()).collect());
                assert_eq!(balancer().pick(&upstream(balance, weights), &tried, || 1), None);
            }
        }
    }

    #[test]
    fn upstreams_take_turns_apart() {
        let one = upstream(Balance::RoundRobin, &[1, 1]);
        let other = Upstream { place: 1, ..upstream(Balance::RoundRobin, &[1, 1]) };
        let balancer = balancer();
        let pick = |upstream| balancer.pick(upstream, &Tried::default(), || 0).expect("a member");
        let picked: Vec<_> = (0..4).map(|_| (pick(&one), pick(&other)).0).collect();
        assert_eq!(picked, [0, 1, 0, 1]);
    }

    #[test]
    fn the_less_busy_of_two_is_picked() {
        let upstream = upstream(Balance::LeastRequest, &[1, 2]);
        for _ in 0..3 {
            upstream.members[1].endpoint.begin_use();
        }
        assert_eq!(shares(&upstream, &[], 50), [50, 0]);
        // Two for a weight of 1 are more than three for one of 2.
        upstream.members[0].endpoint.begin_use();
        upstream.members[0].endpoint.begin_use();
        assert_eq!(shares(&upstream, &[], 50), [0, 50]);
    }

    #[test]
    fn where_nobody_is_busy_the_weights_decide() {
        let shares = shares(&upstream(Balance::LeastRequest, &[1, 3]), &[], 4_000);
        assert!((900..1_100).contains(&shares[0]), "{shares:?}");
    }

    #[test]
    fn users_are_spread_by_weight() {
        let shares = shares(&upstream(Balance::HashUser, &[1, 1, 2]), &[], 4_000);
        assert!((900..1_100).contains(&shares[0]), "{shares:?}");
        assert!((900..1_100).contains(&shares[1]), "{shares:?}");
    }

    #[test]
    fn only_the_users_of_a_lost_endpoint_move() {
        let upstream = upstream(Balance::HashUser, &[1, 1, 1]);
        let lost = Tried(vec![1]);
        for number in 0..1_000 {
            let caller = || hash(format!("user{number}").as_bytes());
            let before = balancer().pick(&upstream, &Tried::default(), caller);
            let after = balancer().pick(&upstream, &lost, caller);
            assert!(before == Some(1) || before == after, "user{number}");
            assert_ne!(after, Some(1));
        }
    }
}
