//! Who called: the names a verified key stands for, each checked once so that it is safe in a header
//! and in a log line, and the roles they may hold.
//!
//! Never here: key material, or the decision whether an identity may pass.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use http::HeaderName;

use crate::limit::quota::Quota;
use crate::limit::requests::RequestLimits;
use crate::scopes::Scopes;

/// Most roles one configuration may declare: a [`RoleSet`] is one machine word pair.
pub const MAX_ROLES: usize = 128;
/// Longest name of a user, role or key id, in bytes: names travel in headers and log lines.
pub const MAX_NAME_BYTES: usize = 128;
/// Longest label, in bytes.
pub const MAX_LABEL_BYTES: usize = 255;

/// Why a text cannot be a name. `Display` ends the sentence "the user name …".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// Nothing there.
    Empty,
    /// More than `limit` bytes.
    TooLong {
        /// The most bytes such a name may have.
        limit: usize,
    },
    /// A character this kind of name may not hold.
    Character {
        /// The first one found.
        found: char,
        /// What may stand there instead.
        allowed: &'static str,
    },
}

impl Display for NameError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("is empty"),
            Self::TooLong { limit } => write!(f, "is longer than {limit} bytes"),
            Self::Character { found, allowed } => {
                write!(f, "holds {found:?}; allowed are {allowed}")
            }
        }
    }
}

impl std::error::Error for NameError {}

fn check(
    text: &str,
    limit: usize,
    allowed: &'static str,
    is_allowed: impl Fn(char) -> bool,
) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > limit {
        return Err(NameError::TooLong { limit });
    }
    match text.chars().find(|&c| !is_allowed(c)) {
        Some(found) => Err(NameError::Character { found, allowed }),
        None => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $limit:expr, $allowed:literal, $is_allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks `text`.
            pub fn new(text: &str) -> Result<Self, NameError> {
                check(text, $limit, $allowed, $is_allowed)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Display for $name {
            fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(
    /// The public name of a key, safe to log: `key_2mVx81Qp`.
    KeyId,
    MAX_NAME_BYTES,
    "ASCII letters, digits, '_', '-' and '.'",
    |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
);
name!(
    /// The user a key belongs to: `alice`, `billing@example.com`.
    UserName,
    MAX_NAME_BYTES,
    "printable ASCII characters without spaces",
    |c| c.is_ascii_graphic()
);
name!(
    /// A role a key may have: `viewer`.
    RoleName,
    MAX_NAME_BYTES,
    "ASCII letters, digits, '_', '-' and '.'",
    |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
);
name!(
    /// What people call a key: `billing export`. Never sent in a header.
    Label,
    MAX_LABEL_BYTES,
    "characters that print",
    |c| !c.is_control()
);

/// How far a role may manage keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdminScope {
    /// No keys.
    #[default]
    None,
    /// The keys of its own user.
    Own,
    /// Everybody's keys.
    All,
}

/// A declared role: its place in a [`RoleSet`] and its name as a header value, built once.
#[derive(Debug, PartialEq)]
pub struct Role {
    index: u8,
    name: RoleName,
    admin: AdminScope,
    /// The roles this one is or inherits from: it passes wherever one of them does.
    passes_as: RoleSet,
    limits: RequestLimits,
    quota: Option<Arc<Quota>>,
}

impl Role {
    /// The role's name.
    pub fn name(&self) -> &RoleName {
        &self.name
    }

    /// How far the role may manage keys.
    pub fn admin(&self) -> AdminScope {
        self.admin
    }

    /// How many requests each of its keys may send, unless the key says otherwise.
    pub fn limits(&self) -> RequestLimits {
        self.limits
    }

    /// The same, for a key that says nothing itself.
    pub fn quota(&self) -> Option<&Arc<Quota>> {
        self.quota.as_ref()
    }

    /// Whether this role, or one it inherits from, is in `required`.
    pub fn passes(&self, required: RoleSet) -> bool {
        self.passes_as.0 & required.0 != 0
    }

    /// Whether whoever has `other` may do nothing, on any route and with any key, that this role may not.
    pub fn covers(&self, other: &Self) -> bool {
        other.passes_as.0 & !self.passes_as.0 == 0 && other.admin <= self.admin
    }
}

/// A set of declared roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoleSet(u128);

impl RoleSet {
    /// Adds `role`.
    pub fn insert(&mut self, role: &Role) {
        self.0 |= 1 << role.index;
    }

    /// Whether `role` itself is in the set.
    pub fn contains(self, role: &Role) -> bool {
        self.0 & (1 << role.index) != 0
    }

    /// Whether no role is in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// One role as it is declared, before inheritance is resolved.
#[derive(Clone, Debug)]
pub struct RoleDeclaration {
    /// Its name.
    pub name: RoleName,
    /// The roles it inherits from, directly.
    pub inherits: Vec<RoleName>,
    /// How far it may manage keys.
    pub admin: AdminScope,
    /// How many requests each of its keys may send. They are not inherited: an heir may do more.
    pub limits: RequestLimits,
}

/// Why the declared roles do not fit together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RolesError {
    /// More than [`MAX_ROLES`].
    TooMany,
    /// `role` inherits from `parent`, which is not declared.
    UnknownParent {
        /// The heir.
        role: RoleName,
        /// The name nobody declares.
        parent: RoleName,
    },
    /// `role` inherits, over some steps, from itself.
    Cycle {
        /// A role on the circle.
        role: RoleName,
    },
}

/// All declared roles, with inheritance resolved.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Roles(BTreeMap<RoleName, Arc<Role>>);

impl Roles {
    /// Resolves `declarations`; every fault is returned, not only the first.
    pub fn new(declarations: &[RoleDeclaration]) -> Result<Self, Vec<RolesError>> {
        if declarations.len() > MAX_ROLES {
            return Err(vec![RolesError::TooMany]);
        }
        let position = |name: &RoleName| declarations.iter().position(|d| d.name == *name);
        let mut errors = Vec::new();
        let mut parents = Vec::with_capacity(declarations.len());
        for declaration in declarations {
            let mut direct = Vec::new();
            for parent in &declaration.inherits {
                match position(parent) {
                    Some(index) => direct.push(index),
                    None => errors.push(RolesError::UnknownParent {
                        role: declaration.name.clone(),
                        parent: parent.clone(),
                    }),
                }
            }
            parents.push(direct);
        }
        let mut roles = BTreeMap::new();
        for (index, declaration) in declarations.iter().enumerate() {
            let ancestors = ancestors(index, &parents);
            if ancestors & (1 << index) != 0 {
                errors.push(RolesError::Cycle { role: declaration.name.clone() });
            }
            let role = Role {
                index: u8::try_from(index).expect("MAX_ROLES fits in a byte"),
                name: declaration.name.clone(),
                admin: declaration.admin,
                passes_as: RoleSet(ancestors | 1 << index),
                limits: declaration.limits,
                quota: Quota::of_key(declaration.limits),
            };
            roles.insert(declaration.name.clone(), Arc::new(role));
        }
        if errors.is_empty() { Ok(Self(roles)) } else { Err(errors) }
    }

    /// The role called `name`.
    pub fn find(&self, name: &str) -> Option<&Arc<Role>> {
        // A map keyed by RoleName is searched by a checked name; an unchecked one is in no map.
        RoleName::new(name).ok().and_then(|name| self.0.get(&name))
    }

    /// Every role, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Role>> {
        self.0.values()
    }
}

/// The places of all roles that `start` inherits from, over any number of steps.
fn ancestors(start: usize, parents: &[Vec<usize>]) -> u128 {
    let mut found = 0_u128;
    let mut open = parents[start].clone();
    while let Some(index) = open.pop() {
        if found & (1 << index) == 0 {
            found |= 1 << index;
            open.extend(&parents[index]);
        }
    }
    found
}

/// Who a verified key stands for.
///
/// The three texts share one allocation: among a million keys that is what keeps the table small. With the counts of its
/// `Arc` it is one cache line, and in eight bytes less most would be two.
#[derive(Debug)]
#[repr(align(16))]
pub struct Identity {
    text: Box<str>,
    key_id_len: u8,
    user_len: u8,
    role: Arc<Role>,
    scopes: Option<Arc<Scopes>>,
    quota: Option<Arc<Quota>>,
}

const _: () = assert!(size_of::<Identity>() + 2 * size_of::<usize>() == 64);

impl Identity {
    /// Puts an identity together from checked parts; its key reaches all that its role does.
    pub fn new(key_id: &KeyId, user: &UserName, label: &Label, role: Arc<Role>) -> Self {
        const _: () = assert!(MAX_NAME_BYTES <= u8::MAX as usize);
        let text = [key_id.as_str(), user.as_str(), label.as_str()].concat();
        Self {
            text: text.into_boxed_str(),
            key_id_len: key_id.as_str().len() as u8,
            user_len: user.as_str().len() as u8,
            role,
            scopes: None,
            quota: None,
        }
    }

    /// The same, with a key that is narrowed to `scopes`.
    pub fn narrowed(mut self, scopes: Option<Arc<Scopes>>) -> Self {
        self.scopes = scopes;
        self
    }

    /// The same, with a key of which so many requests are taken.
    pub fn limited(mut self, quota: Option<Arc<Quota>>) -> Self {
        self.quota = quota;
        self
    }

    fn bounds(&self) -> (usize, usize) {
        let key_id_end = usize::from(self.key_id_len);
        (key_id_end, key_id_end + usize::from(self.user_len))
    }

    /// The id of the key.
    pub fn key_id(&self) -> &str {
        &self.text[..self.bounds().0]
    }

    /// The user the key belongs to.
    pub fn user(&self) -> &str {
        let (start, end) = self.bounds();
        &self.text[start..end]
    }

    /// What people call the key.
    pub fn label(&self) -> &str {
        &self.text[self.bounds().1..]
    }

    /// The role of the key.
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// What the key is narrowed to.
    pub fn scopes(&self) -> Option<&Scopes> {
        self.scopes.as_deref()
    }

    /// How many requests of the key are taken.
    pub fn quota(&self) -> Option<&Arc<Quota>> {
        self.quota.as_ref()
    }
}

/// The header names under which the upstream learns who called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityHeaders {
    /// Carries [`Identity::user`].
    pub user: HeaderName,
    /// Carries the role's name.
    pub role: HeaderName,
    /// Carries [`Identity::key_id`].
    pub key_id: HeaderName,
}
