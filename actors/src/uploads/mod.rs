//! Files that people send.
//!
//! | file | holds |
//! | --- | --- |
//! | [`rules`] | what uploads are held to, as it is in force now |
//! | [`settings`] | the sections `uploads` and `antivirus` of the configuration |

pub mod rules;
pub mod settings;
