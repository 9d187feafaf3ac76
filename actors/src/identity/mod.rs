//! Who somebody is: proves the tokens and API keys that callers show.
//!
//! | file | holds |
//! | --- | --- |
//! | [`settings`] | whose tokens are taken, and with what they are proved |
//! | `token` | the parts of a token, read strictly before anything in them is believed |
//! | `keys` | keys, each with the one kind of signature that it may prove |
//! | [`verifier`] | proves a token: [`Verifier`] |
//! | [`api_keys`] | what programs show that have no issuer: [`ApiKeys`] |
//! | [`keeper`] | fetches what an issuer publishes and keeps it fresh: [`Keeper`] |
//! | `published_keys` | the keys that an issuer publishes: [`PublishedKeys`] |
//! | `fetching` | one call to an issuer, within its limits |
//! | [`looking`] | what is to be said of keys without any token: for whoever sets them up |
//!
//! A token proves nothing by what it says about itself (RFC 8725): its algorithm must be allowed and fit the key's kind, its key
//! is looked up among known ones and never fetched from where a token points, and a public key is no secret.

pub mod api_keys;
mod fetching;
pub mod keeper;
mod keys;
pub mod looking;
mod published_keys;
pub mod settings;
pub mod sign_in;
mod token;
pub mod verifier;

pub use api_keys::{ApiKeyError, ApiKeys, ProvenKey};
pub use fetching::FetchError;
pub use keeper::{Keeper, KeeperDeps, Refresh, Source};
pub use published_keys::PublishedKeys;
pub use settings::{AuthSettings, IssuerSettings, SettingsError};
pub use verifier::{TokenError, Verified, Verifier};
