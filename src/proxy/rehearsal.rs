//! What is done with a request, but for sending it: for the pipeline bench and the fuzz targets.
//!
//! Never here: a rule of its own.

use std::rc::Rc;

use http::HeaderMap;
use http::request::Parts;
use http_body::SizeHint;

use super::context::RequestContext;
use super::error::Refusal;
use super::{Proxy, body, permitted};
use crate::server::connection::ConnectionInfo;
use crate::upstream::head::Head;

impl Proxy {
    /// Does with a request's head all that [`handle`](Self::handle) does but send it.
    ///
    /// # Errors
    /// Why it would be refused.
    #[doc(hidden)]
    pub fn rehearse(
        self: &Rc<Self>,
        connection: &Rc<ConnectionInfo>,
        head: Parts,
        size: SizeHint,
    ) -> Result<Head, Refusal> {
        let mut context = RequestContext::start(self, connection, Some(&head));
        let framing = body::framing(&head.headers, size);
        permitted(head, framing, &mut context).map(|(_, head)| head)
    }

    /// Does with a request's trailers what is done before they go on.
    #[doc(hidden)]
    pub fn rehearse_trailers(&self, trailers: &mut HeaderMap) {
        body::strip_trailers(trailers, &self.snapshot());
    }
}
