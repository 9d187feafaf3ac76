//! Who may save settings.

use serde::Deserialize;

use crate::domain::ids::Tenant;

/// The section `settings` of the configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OperatorSettings {
    /// Tenants whose admins may save settings, with commas; empty: nobody may where people must prove who they are.
    pub operator_tenants: String,
}

impl OperatorSettings {
    /// The tenants.
    ///
    /// # Errors
    /// The entry that is no name of one.
    pub fn tenants(&self) -> Result<Vec<Tenant>, String> {
        let names = self.operator_tenants.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(|name| Tenant::new(name).ok_or_else(|| format!("{name:?} is no name of a tenant"))).collect()
    }
}

/// Who may save settings. They are the whole installation's, and not one tenant's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operators {
    /// Everybody: nobody has to prove who they are, and only this machine is served.
    Everybody,
    /// The admins of these tenants.
    AdminsOf(Vec<Tenant>),
}

impl Operators {
    /// Whether an admin of `tenant` is one.
    #[must_use]
    pub fn has(&self, tenant: &Tenant) -> bool {
        match self {
            Self::Everybody => true,
            Self::AdminsOf(tenants) => tenants.contains(tenant),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operators(list: &str) -> Result<Operators, String> {
        OperatorSettings { operator_tenants: list.to_owned() }.tenants().map(Operators::AdminsOf)
    }

    #[test]
    fn a_tenant_is_an_operator_by_its_whole_name() {
        let acme = Tenant::new("acme").unwrap_or_else(|| unreachable!());
        for (list, is_one) in [("", false), (" , ", false), ("acme", true), ("x, acme ", true), ("acme2", false)] {
            assert_eq!(operators(list).map(|operators| operators.has(&acme)), Ok(is_one), "{list}");
        }
        assert!(operators("a\nb").is_err());
        assert!(Operators::Everybody.has(&acme));
    }
}
