//! The signals that a running process listens to.
//!
//! Never here: what is done then.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the operator says to a running process.
pub(super) struct Signals {
    pub(super) end: EndSignals,
    pub(super) hangup: Signal,
    pub(super) reopen: Signal,
    pub(super) upgrade: Signal,
}

impl Signals {
    /// From here on none of them ends the process by itself.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            end: EndSignals {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            },
            hangup: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
            upgrade: signal(SignalKind::user_defined2())?,
        })
    }
}

pub(super) struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl EndSignals {
    pub(super) async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
