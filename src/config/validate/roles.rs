//! `[roles.NAME]`: what is declared, and what it inherits.

use super::requests;
use crate::config::check::{Check, Span, Text};
use crate::config::raw::{self, Field, Named, Table};
use crate::identity::{
    AdminScope, MAX_ROLES, RoleDeclaration, RoleName, RoleSet, Roles, RolesError,
};

/// The roles, and every name that was declared, faulty ones too: a route that names one is not at fault.
pub(super) struct Declared {
    names: Vec<String>,
    pub(super) resolved: Roles,
}

/// A role as it is declared, with the places of its parents.
struct Declaration {
    declaration: RoleDeclaration,
    span: Span,
    parents: Vec<Text>,
}

pub(super) fn roles(check: &mut Check<'_>, field: Field<Named<Table<raw::Role>>>) -> Declared {
    let Some(named) = check.field(field) else {
        return Declared { names: Vec::new(), resolved: Roles::default() };
    };
    let span = named.span();
    let named = named.into_inner().0;
    let names: Vec<String> = named.iter().map(|(name, _)| name.get_ref().clone()).collect();
    let mut declarations = Vec::with_capacity(named.len());
    for (name, given) in named {
        let raw = check.section(&format!("roles.{name}"), Field(Some(given)));
        let parents = check.texts(raw.inherits, MAX_ROLES);
        let admin = check.one_of(
            raw.admin,
            AdminScope::None,
            &[("own", AdminScope::Own), ("all", AdminScope::All)],
        );
        let limits = requests::limits(check, &format!("roles.{name}.limits"), raw.limits);
        match RoleName::new(name.get_ref()) {
            Ok(role) => {
                let parents = parents.map(|parents| parents.into_inner()).unwrap_or_default();
                let inherits =
                    parents.iter().filter_map(|text| RoleName::new(&text.value).ok()).collect();
                let declaration = RoleDeclaration { name: role, inherits, admin, limits };
                declarations.push(Declaration { declaration, span: name.span(), parents });
            }
            Err(error) => {
                let message = format!("the role name {:?} {error}", name.get_ref());
                check.fault(name.span(), message, "choose another name");
            }
        }
    }
    for declaration in &declarations {
        for parent in &declaration.parents {
            unless_declared(check, parent, &names);
        }
    }
    let resolved = resolve(check, span, declarations, &names);
    Declared { names, resolved }
}

fn unless_declared(check: &mut Check<'_>, text: &Text, names: &[String]) {
    if names.contains(&text.value) {
        return;
    }
    let declare = "declare it: a line [roles.NAME] is enough";
    let help = match text.meant(names.iter().map(String::as_str)) {
        Some(role) => format!("did you mean {role:?}? If not, {declare}"),
        None if names.is_empty() => declare.to_owned(),
        None => format!("write one of: {}; or {declare}", names.join(", ")),
    };
    check.fault(text.span.clone(), format!("no role is called {}", text.shown), help);
}

/// Inheritance; on a fault the roles alone, so that routes can be checked against them.
fn resolve(
    check: &mut Check<'_>,
    span: Span,
    declarations: Vec<Declaration>,
    names: &[String],
) -> Roles {
    let mut known: Vec<RoleDeclaration> =
        declarations.iter().map(|declared| declared.declaration.clone()).collect();
    for declaration in &mut known {
        declaration.inherits.retain(|parent| names.iter().any(|name| name == parent.as_str()));
    }
    let errors = match Roles::new(&known) {
        Ok(roles) => return roles,
        Err(errors) => errors,
    };
    for error in errors {
        match error {
            RolesError::TooMany => {
                let help = format!("declare {MAX_ROLES} roles at most");
                check.fault(span.clone(), format!("there are {} roles", known.len()), help);
            }
            RolesError::Cycle { role } => {
                let declared = declarations.iter().find(|d| d.declaration.name == role);
                let span = declared.map_or(span.clone(), |d| d.span.clone());
                let message = format!("the role \"{role}\" inherits, over some steps, from itself");
                check.fault(span, message, "take one of the roles on the circle out of inherits");
            }
            // A parent whose own declaration is faulty; its fault is reported there.
            RolesError::UnknownParent { .. } => {}
        }
    }
    known.truncate(MAX_ROLES);
    for declaration in &mut known {
        declaration.inherits.clear();
    }
    Roles::new(&known).unwrap_or_default()
}

impl Declared {
    /// The set of the roles named in `texts`; a name nobody declares is a fault.
    pub(super) fn set(&self, check: &mut Check<'_>, texts: &[Text]) -> RoleSet {
        let mut set = RoleSet::default();
        for text in texts {
            unless_declared(check, text, &self.names);
            if let Some(role) = self.resolved.find(&text.value) {
                set.insert(role);
            }
        }
        set
    }
}
