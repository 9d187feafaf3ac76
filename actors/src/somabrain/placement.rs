//! Where a memory belongs: tenant, namespace and universe, each chosen by its own rule.
//!
//! | word | first hit wins |
//! | --- | --- |
//! | tenant | the argument, the memory's `tenant`, its `metadata.tenant`, the configured one |
//! | namespace | the argument, the memory's `namespace`, its `metadata.namespace`, the configured one, `wm` |
//! | universe | the argument, the memory's `metadata.universe_id`, the configured one; else the server's own |
//!
//! A memory's members come from whoever wrote it. Where that is a person at the door, give the tenant as an argument.

use serde_json::Value;

use crate::domain::{ids::Tenant, memory::MemorySpace};

/// What is settled before the memory is looked at; it decides over everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Arguments<'a> {
    /// The tenant.
    pub tenant: Option<&'a Tenant>,
    /// The sub-space of a memory.
    pub namespace: Option<&'a str>,
    /// The knowledge base.
    pub universe: Option<&'a str>,
}

/// Where `memory` belongs. `tenant` and `space` are those of the configuration.
#[must_use]
pub fn placed(memory: &Value, arguments: Arguments<'_>, tenant: &Tenant, space: &MemorySpace) -> (Tenant, MemorySpace) {
    let metadata = &memory["metadata"];
    let named = |value| said(value).and_then(Tenant::new);
    let tenant = arguments
        .tenant
        .cloned()
        .or_else(|| named(&memory["tenant"]))
        .or_else(|| named(&metadata["tenant"]))
        .unwrap_or_else(|| tenant.clone());
    let namespace = arguments
        .namespace
        .or_else(|| said(&memory["namespace"]))
        .or_else(|| said(&metadata["namespace"]))
        .or_else(|| Some(&*space.namespace).filter(|namespace| !namespace.is_empty()))
        .unwrap_or("wm")
        .to_owned();
    let universe =
        arguments.universe.or_else(|| said(&metadata["universe_id"])).or(space.universe.as_deref()).map(str::to_owned);
    (tenant, MemorySpace { universe, namespace })
}

/// A text that says something.
fn said(value: &Value) -> Option<&str> {
    value.as_str().map(str::trim).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use serde_json::json;

    use super::*;

    /// A memory that says everything a memory can say about its place, and one thing it must not be asked about.
    fn talkative() -> Value {
        json!({
            "tenant": "t-memory", "namespace": "n-memory", "universe": "u-memory",
            "metadata": {"tenant": "t-metadata", "namespace": "n-metadata", "universe_id": "u-metadata"},
        })
    }

    fn place(memory: &Value, arguments: Arguments<'_>) -> (String, String, Option<String>) {
        let space = MemorySpace { universe: Some("u-configured".into()), namespace: "n-configured".into() };
        let (tenant, space) = placed(memory, arguments, &Tenant::new("t-configured").unwrap(), &space);
        (tenant.to_string(), space.namespace, space.universe)
    }

    /// The talkative memory without one member.
    fn without(mut memory: Value, pointer: &str) -> Value {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        memory.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
        memory
    }

    #[test]
    fn tenant_is_argument_then_memory_then_metadata_then_configured() {
        let argument = Tenant::new("t-argument").unwrap();
        let said = Arguments { tenant: Some(&argument), ..Arguments::default() };
        assert_eq!(place(&talkative(), said).0, "t-argument");
        assert_eq!(place(&talkative(), Arguments::default()).0, "t-memory");
        let memory = without(talkative(), "/tenant");
        assert_eq!(place(&memory, Arguments::default()).0, "t-metadata");
        let memory = without(memory, "/metadata/tenant");
        assert_eq!(place(&memory, Arguments::default()).0, "t-configured");
    }

    #[test]
    fn namespace_is_argument_then_memory_then_metadata_then_configured_then_wm() {
        let said = Arguments { namespace: Some("n-argument"), ..Arguments::default() };
        assert_eq!(place(&talkative(), said).1, "n-argument");
        assert_eq!(place(&talkative(), Arguments::default()).1, "n-memory");
        let memory = without(talkative(), "/namespace");
        assert_eq!(place(&memory, Arguments::default()).1, "n-metadata");
        let memory = without(memory, "/metadata/namespace");
        assert_eq!(place(&memory, Arguments::default()).1, "n-configured");
        let none = MemorySpace { universe: Some("u".into()), namespace: String::new() };
        let (_, space) = placed(&memory, Arguments::default(), &Tenant::new("t").unwrap(), &none);
        assert_eq!(space.namespace, "wm", "never the universe");
    }

    #[test]
    fn universe_is_argument_then_metadata_then_configured_then_the_servers_own() {
        let said = Arguments { universe: Some("u-argument"), ..Arguments::default() };
        assert_eq!(place(&talkative(), said).2.unwrap(), "u-argument");
        assert_eq!(place(&talkative(), Arguments::default()).2.unwrap(), "u-metadata");
        let memory = without(talkative(), "/metadata/universe_id");
        assert_eq!(place(&memory, Arguments::default()).2.unwrap(), "u-configured");
        let none = MemorySpace { universe: None, namespace: "n".into() };
        let (_, space) = placed(&memory, Arguments::default(), &Tenant::new("t").unwrap(), &none);
        assert_eq!(space.universe, None, "never the namespace");
    }
}
