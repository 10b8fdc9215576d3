//! Tells systemd what the program is doing (sd_notify(3)), where it was started by a unit of `Type=notify`.
//!
//! Never here: a condition. Without systemd nothing happens.

use sd_notify::NotifyState;

/// The program serves.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The process `pid` serves in the place of this one, which ends.
pub fn succeeded_by(pid: u32) {
    tell(&[NotifyState::MainPid(pid)]);
}

/// No more requests are taken; those in flight end.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd could not be told");
    }
}
