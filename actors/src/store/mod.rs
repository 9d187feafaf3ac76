//! SQL, one file a table. The only place that knows PostgreSQL.

pub mod brain_memories;
