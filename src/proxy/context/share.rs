//! What a request takes of what its key, or its route, may send (see [`quota`](crate::proxy::quota)).
//!
//! Never here: whether it may.

use std::rc::Rc;
use std::sync::Arc;

use http::HeaderMap;

use super::RequestContext;
use crate::limit::meter::Moment;
use crate::limit::quota::{Exceeded, Quota};
use crate::proxy::quota::{Metered, Share};

impl RequestContext {
    /// When it began, as meters are told it.
    pub(in crate::proxy) fn moment(&self) -> Moment {
        self.proxy.moment(self.started)
    }

    /// What its key has used of `quota`, or whoever it comes from.
    pub(in crate::proxy) fn metered(
        &self,
        quota: &Arc<Quota>,
        is_by_key: bool,
        now: Moment,
    ) -> Rc<Metered> {
        let meters = &self.proxy.meters;
        match &self.place {
            Some(place) if is_by_key => {
                place.key().metered(quota, |key_id| meters.of_key(quota, key_id, now))
            }
            _ => {
                let meter = meters.of_address(quota, self.client(), now);
                Rc::new(Metered { quota: Arc::clone(quota), meter })
            }
        }
    }

    /// Keeps what it has taken to the end of its answer.
    pub(in crate::proxy) fn hold_share(&mut self, share: Box<Share>) {
        if let Some(Exceeded { limit, holder, .. }) = share.refused() {
            self.proxy.measures.limited((limit.as_str(), holder.as_str()));
        }
        self.share = Some(share);
    }

    /// Notes that it goes on.
    pub(in crate::proxy) fn was_admitted(&mut self) {
        self.is_admitted = true;
    }

    /// Tells the client what is left, where anything is limited.
    pub(in crate::proxy) fn tell_share(&self, headers: &mut HeaderMap) {
        if let Some(share) = &self.share {
            share.tell(headers, self.proxy.moment(self.connection.now()));
        }
    }
}
