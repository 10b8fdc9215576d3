//! What is told of a request when it has ended, however it did: to the access log, to the usage of its key, and to what
//! is measured.
//!
//! Never here: what is observed while it lasts.

use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use super::{CLIENT_LEFT, RequestContext};
use crate::identity::Identity;
use crate::proxy::error::Refusal;
use crate::telemetry::metrics::cell;
use crate::telemetry::record::Record;
use crate::usage::cell as usage;

impl Drop for RequestContext {
    fn drop(&mut self) {
        let duration = self.connection.now().saturating_duration_since(self.started);
        if self.code.is_none() {
            self.code = self.end().map(|end| end.problem().code);
        }
        if self.code.is_none() && thread::panicking() {
            self.code = Some(Refusal::Internal.problem().code);
        }
        if self.code.is_none() && self.status.is_none() {
            self.code = Some(CLIENT_LEFT);
        }
        let status = self.status.map(|status| status.as_u16());
        if !self.proxy.log.is_off() {
            self.record(status, duration);
        }
        if let Some(place) = self.place.take() {
            place.key().usage().end(usage::Ended {
                status,
                client: self.client(),
                route: self.route,
                bytes_in: self.bytes_in(),
                bytes_out: self.bytes_out,
                is_admitted: self.is_admitted,
            });
            self.proxy.in_flight.leave(&place);
        }
        let ended = cell::Ended { route: self.route, status, code: self.code, duration };
        self.proxy.measures.end(self.generation.for_record().1, ended);
    }
}

impl RequestContext {
    fn bytes_in(&self) -> u64 {
        self.upload.as_ref().map_or(self.tunnelled_in, |upload| upload.bytes())
    }

    fn record(&self, status: Option<u16>, duration: Duration) {
        let (redactor, routes) = self.generation.for_record();
        let target = self.line.as_ref().and_then(|(_, uri)| uri.path_and_query());
        let identity = self.place.as_ref().map(|place| &**place.key().identity());
        let named = self.client.map(|client| client.to_string());
        self.proxy.log.write(&Record {
            time: UNIX_EPOCH + Duration::from_micros(self.started_unix_micros),
            request_id: self.request_id_str(),
            client: named.as_deref().unwrap_or(self.connection.peer().via().address()),
            method: self.line.as_ref().map(|(method, _)| redactor.text(method.as_str().as_bytes())),
            path: target.map(|target| redactor.target(target.as_str().as_bytes())),
            status,
            code: self.code,
            user: identity.map(Identity::user),
            role: identity.map(|identity| identity.role().name().as_str()),
            key_id: identity.map(Identity::key_id),
            route: self.route.map(|place| routes.routes()[place].pattern()),
            endpoint: self.endpoint.as_ref().map(|endpoint| endpoint.name()),
            bytes_in: self.bytes_in(),
            bytes_out: self.bytes_out,
            duration,
            upstream: self.upstream,
        });
    }
}
