//! Who somebody is: proves the tokens that callers show.
//!
//! | file | holds |
//! | --- | --- |
//! | [`settings`] | whose tokens are taken, and with what they are proved |
//! | `token` | the parts of a token, read strictly before anything in them is believed |
//! | `keys` | keys, each with the one kind of signature that it may prove |
//! | [`verifier`] | proves a token: [`Verifier`] |
//! | [`key_keeper`] | fetches the keys that an issuer publishes and keeps them fresh: [`KeyKeeper`] |
//!
//! A token proves nothing by what it says about itself (RFC 8725): its algorithm must be allowed and fit the key's kind, its key
//! is looked up among known ones and never fetched from where a token points, and a public key is no secret.

pub mod key_keeper;
mod keys;
pub mod settings;
mod token;
pub mod verifier;

pub use key_keeper::{KeyKeeper, KeyKeeperDeps, RefreshKeys};
pub use settings::{AuthSettings, IssuerSettings, SettingsError};
pub use verifier::{Fetched, TokenError, Verified, Verifier};
