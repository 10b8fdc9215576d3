//! Which endpoint of an upstream a request goes to. Every worker decides for itself; what it must know of the
//! others is in the endpoints.
//!
//! Never here: whether a request may be tried again, or what happens to one that finds no endpoint.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use super::budget::Budget;
use super::settings::{Balance, WhenNoneIsUp};
use super::standing::WHOLE;
use super::{Member, Upstream};

/// A worker's way to choose.
#[derive(Debug)]
pub struct Balancer {
    /// By [`Upstream::place`].
    courses: RefCell<Vec<Course>>,
    random: Random,
}

/// What a worker remembers of an upstream.
#[derive(Debug)]
struct Course {
    /// Whose turn it is in the round.
    turn: usize,
    budget: Budget,
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

/// What was found for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// The member at this place.
    Member(usize),
    /// All that could be picked have as many connections in use as they may.
    Busy,
    /// All were tried, or are left out and may not be.
    Nobody,
}

impl Balancer {
    /// # Errors
    /// The operating system has no randomness.
    pub fn new() -> Result<Self, getrandom::Error> {
        Ok(Self { courses: RefCell::default(), random: Random(Cell::new(getrandom::u64()?)) })
    }

    /// Counts a new request.
    pub fn count(&self, upstream: &Upstream, now: Instant) {
        if upstream.members.len() > 1 {
            self.with_course(upstream, now, |course| course.budget.request(now));
        }
    }

    /// Which member a new request goes to. `caller` is a [`hash`] of whose request it is.
    pub fn first(&self, upstream: &Upstream, now: Instant, caller: impl Fn() -> u64) -> Pick {
        self.pick(upstream, &Tried::default(), now, &caller)
    }

    /// The place of another member for a request that was `tried` and failed, if it may be tried once more.
    pub fn another(
        &self,
        upstream: &Upstream,
        tried: &Tried,
        now: Instant,
        caller: impl Fn() -> u64,
    ) -> Option<usize> {
        let retries = &upstream.settings.retries;
        if tried.0.len() >= retries.attempts as usize {
            return None;
        }
        let Pick::Member(place) = self.pick(upstream, tried, now, &caller) else { return None };
        let may = self.with_course(upstream, now, |course| course.budget.retry(now, retries));
        may.then_some(place)
    }

    /// Endpoints that are left out are picked when there is nobody else, where the settings say so; that the
    /// others are busy is no reason.
    fn pick(
        &self,
        upstream: &Upstream,
        tried: &Tried,
        now: Instant,
        caller: &impl Fn() -> u64,
    ) -> Pick {
        let share = |place: usize| upstream.members[place].endpoint.share(now);
        let has_share = |place| match share(place) {
            WHOLE => true,
            share => self.random.below(WHOLE) < share,
        };
        let most = upstream.settings.limits.connections;
        let has_room =
            |place: usize| most.is_none_or(|most| upstream.members[place].endpoint.in_use() < most);
        let choose = |takes: &dyn Fn(usize) -> bool| {
            let takes = |place| !tried.has(place) && takes(place) && has_room(place);
            match upstream.settings.balance {
                _ if upstream.members.len() == 1 => takes(0).then_some(0),
                Balance::RoundRobin => self.in_turn(upstream, now, takes, tried.0.is_empty()),
                Balance::LeastRequest => self.less_busy_of_two(upstream, takes),
                Balance::HashUser => highest(upstream, caller(), takes),
            }
        };
        let is_even = upstream.settings.balance != Balance::HashUser;
        let picked = if is_even { choose(&has_share) } else { None };
        if let Some(place) = picked.or_else(|| choose(&|place| share(place) > 0)) {
            return Pick::Member(place);
        }
        let left = || (0..upstream.members.len()).filter(|&place| !tried.has(place));
        if left().any(|place| share(place) > 0) {
            Pick::Busy
        } else if left().next().is_none()
            || upstream.settings.when_none_is_up == WhenNoneIsUp::Refuse
        {
            Pick::Nobody
        } else {
            choose(&|_| true).map_or(Pick::Busy, Pick::Member)
        }
    }

    /// The round goes on behind whoever is picked, so that those left out leave no burden to their neighbours. It does
    /// not go on for a retry: of two endpoints, the broken one would be the first for every request.
    fn in_turn(
        &self,
        upstream: &Upstream,
        now: Instant,
        takes: impl Fn(usize) -> bool,
        goes_on: bool,
    ) -> Option<usize> {
        self.with_course(upstream, now, |course| {
            let (begin, step) = first_from(&upstream.round, course.turn, takes)?;
            if goes_on {
                course.turn = begin + step + 1;
            }
            Some(upstream.round[(begin + step) % upstream.round.len()].into())
        })
    }

    fn with_course<T>(
        &self,
        upstream: &Upstream,
        now: Instant,
        act: impl FnOnce(&mut Course) -> T,
    ) -> T {
        let mut courses = self.courses.borrow_mut();
        let new = || Course { turn: self.random.next() as usize, budget: Budget::new(now) };
        if courses.len() <= upstream.place {
            courses.resize_with(upstream.place + 1, new);
        }
        act(&mut courses[upstream.place])
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

    /// A number below `end`.
    fn below(&self, end: u32) -> u32 {
        (((self.next() >> 32) * u64::from(end)) >> 32) as u32
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
    use std::time::Duration;

    use super::*;
    use crate::upstream::Registry;
    use crate::upstream::settings::{Address, Ejection, Retries, Settings};

    const EJECTION: Ejection = Ejection {
        after: 1,
        back_off: Duration::from_secs(9),
        max_back_off: Duration::from_secs(9),
    };

    fn upstream(balance: Balance, weights: &[u32]) -> Upstream {
        let endpoint = |(number, &weight): (usize, &u32)| {
            let address = Address::Tcp { host: format!("host{number}"), port: 80 };
            (address, weight, None)
        };
        let endpoints: Vec<_> = weights.iter().enumerate().map(endpoint).collect();
        let retries = Retries { attempts: 3, budget_percent: 20, budget_min: 2 };
        let settings = Settings { balance, retries, ejection: EJECTION, ..Settings::default() };
        Upstream::new(&Registry::default(), 0, "app", &endpoints, settings)
    }

    fn balancer() -> Balancer {
        let balancer = Balancer { courses: RefCell::default(), random: Random(Cell::new(7)) };
        let course = || Course { turn: 0, budget: Budget::new(Instant::now()) };
        balancer.courses.borrow_mut().resize_with(2, course);
        balancer
    }

    /// How often each member is picked by `count` requests, each of another caller, if those in `tried` cannot be.
    fn shares(upstream: &Upstream, tried: &[usize], count: u32) -> Vec<u32> {
        let balancer = balancer();
        let tried = Tried(tried.to_vec());
        let mut shares = vec![0; upstream.members.len()];
        for number in 0..count {
            let caller = || hash(format!("user{number}").as_bytes());
            match balancer.pick(upstream, &tried, Instant::now(), &caller) {
                Pick::Member(place) => shares[place] += 1,
                other => panic!("{other:?}"),
            }
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
        eject(&equal, 1);
        assert_eq!(shares(&equal, &[], 300), [100, 0, 100, 100]);
        let least = upstream(Balance::LeastRequest, &[1, 1, 1]);
        assert_eq!(shares(&least, &[0, 2], 9), [0, 9, 0]);
    }

    #[test]
    fn all_that_were_tried_are_never_picked() {
        for balance in [Balance::RoundRobin, Balance::LeastRequest, Balance::HashUser] {
            for weights in [&[1][..], &[1, 2]] {
                let tried = Tried((0..weights.len()).collect());
                let upstream = upstream(balance, weights);
                assert_eq!(balancer().pick(&upstream, &tried, Instant::now(), &|| 1), Pick::Nobody);
            }
        }
    }

    #[test]
    fn upstreams_take_turns_apart() {
        let one = upstream(Balance::RoundRobin, &[1, 1]);
        let other = Upstream { place: 1, ..upstream(Balance::RoundRobin, &[1, 1]) };
        let balancer = balancer();
        let pick = |upstream| balancer.first(upstream, Instant::now(), || 0);
        let picked: Vec<_> = (0..4).map(|_| (pick(&one), pick(&other)).0).collect();
        assert_eq!(picked, [0, 1, 0, 1].map(Pick::Member));
    }

    #[test]
    fn the_less_busy_of_two_is_picked() {
        let upstream = upstream(Balance::LeastRequest, &[1, 2]);
        for _ in 0..3 {
            upstream.members[1].endpoint.begin_use(None);
        }
        assert_eq!(shares(&upstream, &[], 50), [50, 0]);
        // Two for a weight of 1 are more than three for one of 2.
        upstream.members[0].endpoint.begin_use(None);
        upstream.members[0].endpoint.begin_use(None);
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
            let now = Instant::now();
            let before = balancer().pick(&upstream, &Tried::default(), now, &caller);
            let after = balancer().pick(&upstream, &lost, now, &caller);
            assert!(before == Pick::Member(1) || before == after, "user{number}");
            assert_ne!(after, Pick::Member(1));
        }
    }

    fn eject(upstream: &Upstream, place: usize) {
        let now = Instant::now();
        upstream.members[place].endpoint.failed(now, now);
    }

    #[test]
    fn who_is_left_out_gets_nothing_until_nobody_else_is_there() {
        for balance in [Balance::RoundRobin, Balance::LeastRequest, Balance::HashUser] {
            let mut upstream = upstream(balance, &[1, 1]);
            eject(&upstream, 0);
            assert_eq!(shares(&upstream, &[], 20), [0, 20]);
            eject(&upstream, 1);
            let shares = shares(&upstream, &[], 20);
            assert!(shares[0] > 0 && shares[1] > 0, "{shares:?}");
            upstream.settings.when_none_is_up = WhenNoneIsUp::Refuse;
            assert_eq!(balancer().first(&upstream, Instant::now(), || 1), Pick::Nobody);
        }
    }

    #[test]
    fn a_request_is_tried_again_within_its_attempts_and_the_budget() {
        let upstream = upstream(Balance::RoundRobin, &[1, 1, 1, 1]);
        let (balancer, now) = (balancer(), Instant::now());
        let another =
            |tried: &[usize]| balancer.another(&upstream, &Tried(tried.to_vec()), now, || 0);
        assert_eq!(another(&[0, 1, 2]), None, "three attempts are all");
        assert_ne!(another(&[0]), Some(0));
        assert!(another(&[0, 1]).is_some());
        assert_eq!(another(&[0]), None, "the budget is two");
    }

    #[test]
    fn who_is_full_gets_nothing_and_is_no_reason_to_ask_who_is_left_out() {
        for balance in [Balance::RoundRobin, Balance::LeastRequest, Balance::HashUser] {
            let mut upstream = upstream(balance, &[1, 1, 1]);
            upstream.settings.limits.connections = Some(1);
            let first = || balancer().first(&upstream, Instant::now(), || 1);
            upstream.members[0].endpoint.begin_use(None);
            eject(&upstream, 2);
            assert_eq!(first(), Pick::Member(1));
            upstream.members[1].endpoint.begin_use(None);
            assert_eq!(first(), Pick::Busy);
            upstream.members[0].endpoint.end_use();
            assert_eq!(first(), Pick::Member(0));
        }
    }
}
