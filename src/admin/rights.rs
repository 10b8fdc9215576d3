//! Who may do what with keys: pure, and the only place that decides it.
//!
//! Whoever acts does so by a key. Its role says whose keys it manages (`admin = "own"` or `"all"`); beyond that, nobody
//! gives a key anything that their own does not have.
//!
//! Never here: HTTP, files, or whether the acting key is valid.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use crate::identity::{AdminScope, KeyId, Role, Roles, UserName};
use crate::keys::KeyRecord;
use crate::keys::actor::Way;
use crate::limit::requests::RequestLimits;
use crate::problem::FieldFault;
use crate::scopes::Scopes;

/// Who manages keys, by the key they do it with.
#[derive(Clone, Debug)]
pub(super) struct Actor {
    /// The acting key.
    pub(super) key_id: KeyId,
    /// Whose it is.
    pub(super) user: UserName,
    /// What it may do.
    pub(super) role: Arc<Role>,
    /// When it ends.
    pub(super) expires_at: Option<Timestamp>,
    /// What it is narrowed to.
    pub(super) scopes: Option<Arc<Scopes>>,
    /// How many requests it may send.
    pub(super) limits: RequestLimits,
    /// From where they act.
    pub(super) address: IpAddr,
    /// By what way.
    pub(super) way: Way,
}

/// What a key is given, or given back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant<'a> {
    /// Whose it is.
    pub(super) user: &'a UserName,
    /// What it may do.
    pub(super) role: &'a Role,
    /// When it ends.
    pub(super) expires_at: Option<Timestamp>,
    /// What it is narrowed to.
    pub(super) scopes: Option<&'a Scopes>,
    /// How many requests it may send; the rest its role says.
    pub(super) limits: RequestLimits,
}

impl Actor {
    /// Who acts by the key of `record`, from `address`; nobody if its role manages no keys.
    pub(super) fn new(record: &KeyRecord, roles: &Roles, address: IpAddr) -> Option<Self> {
        let role = roles.find(record.role.as_str())?;
        (role.admin() > AdminScope::None).then(|| Self {
            key_id: record.id.clone(),
            user: record.user.clone(),
            role: Arc::clone(role),
            expires_at: record.expires_at,
            scopes: record.scopes.clone(),
            limits: record.limits.or(role.limits()),
            address,
            way: Way::Api,
        })
    }

    /// The same who act by `way`.
    pub(super) fn by(self, way: Way) -> Self {
        Self { way, ..self }
    }

    /// The roles of `roles` that they may give to a key of their own that ends when theirs does.
    pub(super) fn may_give(&self, roles: &Roles) -> Vec<String> {
        let may_give = |role: &&Arc<Role>| {
            let (user, expires_at) = (&self.user, self.expires_at);
            let scopes = self.scopes.as_deref();
            let limits = self.limits;
            self.may_grant(Grant { user, role, expires_at, scopes, limits }).is_ok()
        };
        let given = roles.iter().filter(may_give);
        given.map(|role| role.name().as_str().to_owned()).collect()
    }

    /// Whether they know of keys of `user`. What they do not, is not there for them.
    pub(super) fn sees(&self, user: &UserName) -> bool {
        self.manages_all() || *user == self.user
    }

    /// Whether they manage everybody's keys.
    pub(super) fn manages_all(&self) -> bool {
        self.role.admin() == AdminScope::All
    }

    /// Whether a key may be given this; or every reason why not.
    pub(super) fn may_grant(&self, grant: Grant<'_>) -> Result<(), Vec<FieldFault>> {
        let mut faults = Vec::new();
        let mut refuse = |field, message| {
            faults.push(FieldFault { field: Cow::Borrowed(field), message });
        };
        if !self.sees(grant.user) {
            refuse(
                "user",
                "your role manages the keys of your own user only: that takes a role with admin = \"all\""
                    .to_owned(),
            );
        }
        if !self.role.covers(grant.role) {
            let (ours, wanted) = (self.role.name(), grant.role.name());
            refuse(
                "role",
                format!(
                    "the role {wanted:?} may do what your role {ours:?} may not; nobody grants more than they have",
                    wanted = wanted.as_str(),
                    ours = ours.as_str()
                ),
            );
        }
        if let Some(ours) = self.expires_at
            && grant.expires_at.is_none_or(|end| end > ours)
        {
            refuse(
                "expires_at",
                format!(
                    "your own key ends at {ours}; a key that you make, or give back, cannot end later"
                ),
            );
        }
        if !Scopes::is_within(grant.scopes, self.scopes.as_deref()) {
            refuse(
                "scopes",
                "your own key is narrowed by its allowed_methods, allowed_paths or allowed_cidrs, and each list of the \
                 other must lie within yours"
                    .to_owned(),
            );
        }
        for limit in grant.limits.or(grant.role.limits()).wider_than(self.limits) {
            let ours = self.limits;
            refuse(
                limit,
                format!(
                    "your own key may send {ours}; one that you make, or give back, needs limits that are no wider"
                ),
            );
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{RoleDeclaration, RoleName};
    use crate::scopes;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn roles() -> Roles {
        let role = |name: &str, inherits: &[&str], admin| RoleDeclaration {
            name: RoleName::new(name).unwrap(),
            inherits: inherits.iter().map(|name| RoleName::new(name).unwrap()).collect(),
            admin,
            limits: Default::default(),
        };
        Roles::new(&[
            role("viewer", &[], AdminScope::None),
            role("author", &["viewer"], AdminScope::None),
            role("manager", &["author"], AdminScope::Own),
            role("admin", &["manager"], AdminScope::All),
            role("robot", &[], AdminScope::None),
            role("auditor", &["viewer"], AdminScope::All),
        ])
        .unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn record(id: &str, user: &str, role: &str, expires_at: Option<i64>) -> KeyRecord {
        KeyRecord {
            user: UserName::new(user).unwrap(),
            role: RoleName::new(role).unwrap(),
            expires_at: expires_at.map(at),
            ..KeyRecord::sample(id, id)
        }
    }

    #[test]
    fn only_some_roles_manage_keys() {
        let check = |role: &str, expect: bool| {
            let actor = Actor::new(&record("key_a", "alice", role, None), &roles(), HERE);
            assert_eq!(actor.is_some(), expect, "{role}");
        };
        check("viewer", false);
        check("author", false);
        check("robot", false);
        check("manager", true);
        check("admin", true);
        check("gone", false);
    }

    /// What `acting` (role, end) is refused when it gives `given` (user, role, end), by fields; both are alice's.
    #[track_caller]
    fn check(
        acting: (&str, Option<i64>),
        given: (&str, &str, Option<i64>),
        expect: &[&'static str],
    ) {
        let roles = roles();
        let actor = Actor::new(&record("key_a", "alice", acting.0, acting.1), &roles, HERE);
        let user = UserName::new(given.0).unwrap();
        let role = roles.find(given.1).unwrap();
        let (expires_at, limits) = (given.2.map(at), RequestLimits::default());
        let grant = Grant { user: &user, role, expires_at, scopes: None, limits };
        let refused = actor.unwrap().may_grant(grant).err().unwrap_or_default();
        let fields: Vec<_> = refused.iter().map(|fault| &*fault.field).collect();
        assert_eq!(fields, expect, "{acting:?} gives {given:?}");
    }

    #[test]
    fn nobody_grants_more_than_they_have() {
        for role in ["viewer", "author", "manager"] {
            check(("manager", None), ("alice", role, None), &[]);
            check(("manager", None), ("bob", role, None), &["user"]);
            check(("admin", None), ("bob", role, None), &[]);
        }
        check(("manager", None), ("alice", "admin", None), &["role"]);
        check(("manager", None), ("bob", "robot", None), &["user", "role"]);
        check(("admin", None), ("bob", "admin", None), &[]);
        check(("admin", None), ("bob", "robot", None), &["role"]);
        // It manages all keys, but passes nowhere as an author does.
        check(("auditor", None), ("bob", "viewer", None), &[]);
        check(("auditor", None), ("bob", "author", None), &["role"]);
        check(("auditor", None), ("bob", "manager", None), &["role"]);
        // The other way round it is a matter of whose keys it manages alone.
        check(("manager", None), ("alice", "auditor", None), &["role"]);
    }

    #[test]
    fn nothing_outlives_the_key_that_made_it() {
        check(("admin", Some(100)), ("bob", "viewer", Some(100)), &[]);
        check(("admin", Some(100)), ("bob", "viewer", Some(99)), &[]);
        check(("admin", Some(100)), ("bob", "viewer", Some(101)), &["expires_at"]);
        check(("admin", Some(100)), ("bob", "viewer", None), &["expires_at"]);
        check(("admin", None), ("bob", "viewer", Some(101)), &[]);
        check(("manager", Some(1)), ("bob", "admin", None), &["user", "role", "expires_at"]);
    }

    #[test]
    fn nobody_widens_what_their_own_key_is_narrowed_to() {
        let narrowed = |paths: &[&str]| {
            let paths = paths.iter().map(|text| scopes::path(text).unwrap()).collect();
            Scopes::new(Vec::new(), paths, Vec::new())
        };
        let roles = roles();
        let check = |own: &[&str], given: &[&str], expect: bool| {
            let mut record = record("key_a", "alice", "admin", None);
            record.scopes = narrowed(own);
            let actor = Actor::new(&record, &roles, HERE).unwrap();
            let role = roles.find("viewer").unwrap();
            let scopes = narrowed(given);
            let (user, scopes, limits) = (&record.user, scopes.as_deref(), record.limits);
            let grant = Grant { user, role, expires_at: None, scopes, limits };
            assert_eq!(actor.may_grant(grant).is_ok(), expect, "{own:?} gives {given:?}");
        };
        check(&[], &[], true);
        check(&[], &["/a"], true);
        check(&["/a/{*rest}"], &["/a/b"], true);
        check(&["/a/{*rest}"], &["/b"], false);
        check(&["/a/{*rest}"], &[], false);
    }

    #[test]
    fn nobody_gives_a_key_more_requests_than_their_own() {
        let roles = roles();
        let daily = |daily| RequestLimits { daily, ..RequestLimits::default() };
        let check = |own: Option<u64>, given: Option<u64>, expect: &[&str]| {
            let mut record = record("key_a", "alice", "manager", None);
            record.limits = daily(own);
            let actor = Actor::new(&record, &roles, HERE).unwrap();
            let (user, role) = (&record.user, &**roles.find("viewer").unwrap());
            let limits = daily(given);
            let grant = Grant { user, role, expires_at: None, scopes: None, limits };
            let refused = actor.may_grant(grant).err().unwrap_or_default();
            let fields: Vec<_> = refused.iter().map(|fault| &*fault.field).collect();
            assert_eq!(fields, expect, "{own:?} gives {given:?}");
            assert!(actor.may_give(&roles).contains(&"viewer".to_owned()));
        };
        check(None, None, &[]);
        check(None, Some(9), &[]);
        check(Some(5), Some(5), &[]);
        check(Some(5), Some(6), &["daily"]);
        check(Some(5), None, &["daily"]);
    }

    #[test]
    fn who_manages_their_own_keys_sees_no_others() {
        let roles = roles();
        let actor = |role| Actor::new(&record("key_a", "alice", role, None), &roles, HERE).unwrap();
        let bob = UserName::new("bob").unwrap();
        assert!(actor("manager").sees(&actor("manager").user));
        assert!(!actor("manager").sees(&bob));
        assert!(actor("admin").sees(&bob));
    }
}
