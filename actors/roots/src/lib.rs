//! The authorities that the driver of the database trusts whatever the DSN says: none.
//!
//! sqlx trusts those of the crate of this name, which are Mozilla's, beside the one that `sslrootcert` names. libpq trusts that
//! one alone, and so do its users: with `sslmode=verify-ca`, where the name of the server is not looked at, anybody with a
//! certificate of any public authority could otherwise say to be the database. Where the public authorities are meant, the
//! configuration gives the driver those of the system. Nothing else here uses this crate, and what would trusts nobody.

use rustls_pki_types::TrustAnchor;

/// None.
pub const TLS_SERVER_ROOTS: &[TrustAnchor<'static>] = &[];
