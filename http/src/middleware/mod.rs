//! What happens around every request, from the outside in:
//!
//! 1. [`observe`]: correlation id, span, metrics, panics, and the `instance` of problems;
//! 2. [`headers`]: headers of every reply;
//! 3. [`site`]: who may speak to a door without authentication;
//! 4. [`authorise`]: who asks, and whether they may; around each path, because only the router knows which one is meant.

pub(crate) mod authorise;
pub(crate) mod headers;
pub(crate) mod observe;
pub(crate) mod site;
