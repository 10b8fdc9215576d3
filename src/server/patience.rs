//! How long a client may take nothing of its answer, or take it too slowly.
//!
//! Only what it does not take is waited for here; while there is nothing to take, the endpoint is what is waited for.
//!
//! Never here: what happens to who was too slow.

use super::connection::ConnectionInfo;
use crate::config::Server;
use crate::rate::{Allowance, Pace};

/// What `server` asks of those who take an answer.
pub(super) fn pace(server: &Server) -> Pace {
    Pace {
        longest: server.timeouts.response_body_idle,
        min_rate: server.limits.response_body_min_rate,
    }
}

/// That with the client of one answer.
#[derive(Debug)]
pub(super) struct Patience {
    allowance: Allowance,
    /// Whether the client takes nothing.
    is_blocked: bool,
}

impl Patience {
    /// All of it.
    pub(super) fn new(pace: Pace) -> Self {
        Self { allowance: Allowance::full(pace), is_blocked: false }
    }

    /// Some of the answer was offered, and the client takes nothing of it now, or does. Whether it has taken nothing for
    /// too long.
    pub(super) fn is_over(&mut self, connection: &ConnectionInfo, takes_nothing: bool) -> bool {
        let was_blocked = std::mem::replace(&mut self.is_blocked, takes_nothing);
        let (deadline, now) = (connection.deadline(), connection.now());
        if takes_nothing && !was_blocked {
            deadline.start(now, self.allowance.begin_wait(now));
        } else if was_blocked && !takes_nothing {
            self.allowance.end_wait(now);
            deadline.clear();
        }
        // When the time of the request as a whole is over, that may be at once.
        takes_nothing && deadline.has_passed()
    }

    /// It took so many bytes.
    pub(super) fn took(&self, bytes: usize) {
        self.allowance.earn(bytes);
    }
}
