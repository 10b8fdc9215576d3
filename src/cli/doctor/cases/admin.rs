//! The requests to where keys are managed.
//!
//! Never here: what goes to the data plane.

use super::super::super::failure::Failure;
use super::super::canary::{Place, Standing, Trace};
use super::super::client::Wire;
use super::super::rehearsal::NOBODY;
use super::{Script, To};
use crate::identity::AdminScope;

impl Script<'_> {
    /// Where keys are managed.
    pub(super) fn admin(&mut self) -> Result<(), Failure> {
        let roles = self.config.roles.clone();
        let admin = roles.iter().find(|role| role.admin() == AdminScope::All);
        let admin = admin.map_or(NOBODY, |role| role.name().as_str());
        let bearer = |key: &str| format!("Authorization: Bearer {key}\r\n");
        let paths =
            ["/api/v1/keys", "/api/v1/audit", "/api/v1/me", "/metrics", "/readyz", "/none", "/"];
        let standings = [
            ("good key", Standing::Enabled(admin)),
            ("key that may manage none", Standing::Enabled(NOBODY)),
            ("unknown key", Standing::Unknown),
            ("disabled key", Standing::Disabled(admin)),
        ];
        for path in paths {
            for (outcome, standing) in standings {
                let what = format!("admin {path}, {outcome}");
                self.one(&what, To::Admin, Place::Source, standing, |key| {
                    plain("GET", path, &bearer(key), "")
                })?;
            }
            let what = format!("admin {path}, key in the query");
            self.one(&what, To::Admin, Place::Elsewhere, Standing::Enabled(admin), |key| {
                plain("GET", &format!("{path}?key={key}&q={key}"), "", "")
            })?;
        }
        /// A key is made of it; it is told in the audit log.
        const GOOD: &str = "{\"user\":\"a\",\"role\":\"ROLE\",\"label\":\"canary\"}";
        let role = admin;
        let forms = [
            ("a label", "/api/v1/keys", "{\"user\":\"a\",\"role\":\"ROLE\",\"label\":\"KEY\"}"),
            ("a user", "/api/v1/keys", "{\"user\":\"KEY\",\"role\":\"ROLE\",\"label\":\"a\"}"),
            ("Idempotency-Key, as a key is made", "/api/v1/keys", GOOD),
            ("a role", "/api/v1/keys", "{\"user\":\"a\",\"role\":\"KEY\",\"label\":\"a\"}"),
            ("a body that is no JSON", "/api/v1/keys", "KEY"),
            ("a key's id", "/api/v1/keys/KEY/disable", "{}"),
            ("the sign-in page", "/sign-in", "key=KEY"),
        ];
        for (what, path, body) in forms {
            let trace = Trace { case: self.cases.len(), place: Place::Source };
            let opening = self.canaries.draw(Standing::Enabled(admin), trace)?;
            let what = format!("admin, key in {what}");
            self.one(&what, To::Admin, Place::Elsewhere, Standing::Unknown, |key| {
                let (path, body) = (path.replace("KEY", key), body.replace("KEY", key));
                let kind = if path == "/sign-in" {
                    "application/x-www-form-urlencoded"
                } else {
                    "application/json"
                };
                let body = body.replace("ROLE", role);
                let length = body.len();
                let mut more = format!("Content-Type: {kind}\r\nContent-Length: {length}\r\n");
                if body.contains("\"canary\"") {
                    more += &format!("Idempotency-Key: {key}\r\n");
                }
                plain("POST", &path, &(bearer(&opening) + &more), &body)
            })?;
        }
        Ok(())
    }
}

/// A request for the admin listener.
fn plain(method: &str, path: &str, lines: &str, body: &str) -> Wire {
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lines}\r\n");
    Wire::Http1((head + body).into_bytes())
}
