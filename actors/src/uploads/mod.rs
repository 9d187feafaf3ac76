//! What people upload.
//!
//! | folder | holds |
//! | --- | --- |
//! | [`scanner`] | asks clamd whether bytes are infected, while they arrive |

pub mod scanner;
