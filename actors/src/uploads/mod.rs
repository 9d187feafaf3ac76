//! Files that people send: how they are taken, and how they are given back.
//!
//! | module | is |
//! | --- | --- |
//! | [`downloads`] | bounded reads of what was sent |

pub mod downloads;
