//! Looks at the wall from outside: whether it is as it was raised, and whom else it should keep out.

use std::collections::BTreeSet;

use sqlx::{PgConnection, Row as _, postgres::PgRow};

use super::{Wall, look};

/// What may be done with rows.
type Rights = &'static str;

/// Every table whose rows are somebody's, and what tenants may do with theirs. A table is added here with the migration that makes it.
pub const WALLED: [(&str, Rights); 20] = [
    ("api_keys", "SELECT INSERT UPDATE DELETE"),
    ("attachment_blobs", "SELECT INSERT UPDATE DELETE"),
    ("attachment_chunks", "SELECT INSERT DELETE"),
    ("attachment_pictures", "SELECT INSERT UPDATE"),
    ("attachment_texts", "SELECT INSERT UPDATE"),
    ("attachments", "SELECT INSERT UPDATE"),
    ("attachment_links", "SELECT INSERT UPDATE"),
    ("audit_event", "SELECT INSERT"),
    ("dlq_jobs", "SELECT INSERT UPDATE"),
    ("dlq_messages", "SELECT UPDATE DELETE"),
    ("export_chunks", "SELECT"),
    ("export_jobs", "SELECT INSERT UPDATE"),
    ("memory_replica", "SELECT INSERT UPDATE DELETE"),
    ("memory_tombstones", "SELECT INSERT UPDATE DELETE"),
    ("memory_write_outbox", "SELECT INSERT UPDATE DELETE"),
    ("message_outbox", "SELECT INSERT DELETE"),
    ("session_envelopes", "SELECT UPDATE"),
    ("session_events", "SELECT"),
    ("turns", "SELECT"),
    ("tus_uploads", "SELECT INSERT UPDATE DELETE"),
];

/// The others, what tenants may do there, and why they need no wall.
pub const NOBODYS: [(&str, Rights, &str); 12] = [
    ("audit_chain", "", "chains are sealed and verified for all tenants together"),
    ("audit_seal", "", "as above"),
    ("audit_sealer", "", "how far the sealing is"),
    ("brain_memories", "", "another service's: the stand-in asks as the owner"),
    ("event_log", "", "the log, read by groups of readers"),
    ("event_log_members", "", "who reads the log"),
    ("event_log_offsets", "", "how far it is read"),
    ("event_log_partitions", "", "how long it is"),
    ("memory_replica_offsets", "SELECT", "how far the replica is, which receipts tell"),
    ("outbox_leases", "SELECT", "which keys of queues are being sent, which a deletion looks at"),
    ("ui_settings", "", "the installation's"),
    ("ui_settings_versions", "", "as above"),
];

/// What every table behind the wall shows, as PostgreSQL writes it.
const POLICY: &str = "(tenant = NULLIF(current_setting('soma.tenant'::text, true), ''::text))";

/// Something at which the wall is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gap {
    /// Row-level security does not hold the tenants' role back: it has these attributes.
    Unbound(String),
    /// Somebody may log in as the tenants' role.
    LogsIn,
    /// The tenants' role owns these tables, or may act for who does, so it sees all of their rows.
    Owns(Vec<String>),
    /// These tables show everybody's rows to whoever may read them.
    Open(Vec<String>),
    /// These tables have another policy than they were given: `turns (all_of_it)`.
    OtherPolicy(Vec<String>),
    /// Tenants may do more than the program has them do: `audit_seal (SELECT)`.
    MayMore(Vec<String>),
    /// Tenants may not do what the program has them do, so that fails.
    MayLess(Vec<String>),
    /// The tenants' roles of other databases have rights here.
    Strangers(Vec<String>),
    /// These tables hide rows from the user of the database, who works for all tenants.
    HidesFromUs(Vec<String>),
    /// The user of the database may ignore row-level security anywhere on the server, and as an owner needs not.
    WeBypass,
}

/// How the wall is.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The tenants' role.
    pub role: String,
    /// The user of the database.
    pub user: String,
    /// Whether whoever asks comes behind the wall, and is held back there.
    pub wall: Wall,
    /// What else is not as it should be.
    pub gaps: Vec<Gap>,
}

/// Surveys the wall. Changes nothing. `None` if the tables are not there yet.
///
/// # Errors
/// The database's.
pub async fn survey(connection: &mut PgConnection) -> Result<Option<Survey>, sqlx::Error> {
    let is_there = "SELECT to_regproc('tenant_role') IS NOT NULL AND to_regclass('session_envelopes') IS NOT NULL";
    if !sqlx::query_scalar::<_, bool>(is_there).fetch_one(&mut *connection).await? {
        return Ok(None);
    }
    let wall = look(connection).await?;
    let who = sqlx::query(
        "SELECT tenant_role() AS role, u.rolname::text AS user, u.rolbypassrls AND NOT u.rolsuper AS we_bypass,
                concat_ws(' and ', CASE WHEN r.rolsuper THEN 'SUPERUSER' END, CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END)
                    AS unbound,
                COALESCE(r.rolcanlogin, false) AS logs_in, r.oid IS NOT NULL AS is_there
         FROM pg_roles AS u LEFT JOIN pg_roles AS r ON r.rolname = (SELECT tenant_role())
         WHERE u.rolname = current_user",
    )
    .fetch_one(&mut *connection)
    .await?;
    let tables = tables(connection).await?;
    let mut gaps = Vec::new();
    let unbound: String = who.try_get("unbound")?;
    if !unbound.is_empty() {
        gaps.push(Gap::Unbound(unbound.clone()));
    }
    if who.try_get("logs_in")? {
        gaps.push(Gap::LogsIn);
    }
    // Whoever is bound by nothing owns all and may all.
    gaps.extend(of_tables(&tables, who.try_get("is_there")? && unbound.is_empty()));
    let strangers = strangers(connection).await?;
    if !strangers.is_empty() {
        gaps.push(Gap::Strangers(strangers));
    }
    if who.try_get("we_bypass")? && tables.iter().filter(|table| table.is_walled()).all(|table| table.is_ours) {
        gaps.push(Gap::WeBypass);
    }
    Ok(Some(Survey { role: who.try_get("role")?, user: who.try_get("user")?, wall, gaps }))
}

/// A table that is known.
#[expect(clippy::struct_excessive_bools, reason = "each is a column of what is asked")]
struct Table {
    name: String,
    /// What tenants should be able to do there.
    rights: Rights,
    has_security: bool,
    hides_from_us: bool,
    is_ours: bool,
    is_theirs: bool,
    /// Its policies, and whether they are the one that it was given.
    policies: Vec<String>,
    is_as_given: bool,
    /// What tenants may do.
    may: Vec<String>,
}

impl Table {
    fn read(row: &PgRow) -> Result<Option<Self>, sqlx::Error> {
        let name: String = row.try_get("name")?;
        let nobodys = NOBODYS.iter().map(|(table, rights, _)| (*table, *rights));
        let Some((_, rights)) = WALLED.into_iter().chain(nobodys).find(|(table, _)| *table == name) else {
            return Ok(None);
        };
        Ok(Some(Self {
            rights,
            has_security: row.try_get("has_security")?,
            hides_from_us: row.try_get("hides_from_us")?,
            is_ours: row.try_get("is_ours")?,
            is_theirs: row.try_get("is_theirs")?,
            policies: row.try_get("policies")?,
            is_as_given: row.try_get("is_as_given")?,
            may: row.try_get("may")?,
            name,
        }))
    }

    fn is_walled(&self) -> bool {
        WALLED.iter().any(|(table, _)| *table == self.name)
    }

    /// What tenants may do beyond what they should, and what they should and may not.
    fn differences(&self) -> [String; 2] {
        let may: BTreeSet<&str> = self.may.iter().map(String::as_str).collect();
        let should: BTreeSet<&str> = self.rights.split_whitespace().collect();
        [may.difference(&should), should.difference(&may)].map(|rights| rights.copied().collect::<Vec<_>>().join(", "))
    }
}

async fn tables(connection: &mut PgConnection) -> Result<Vec<Table>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT c.relname::text AS name, c.relrowsecurity AS has_security, row_security_active(c.oid) AS hides_from_us,
                pg_has_role(current_user, c.relowner, 'USAGE') AS is_ours,
                COALESCE(pg_has_role(r.oid, c.relowner, 'USAGE'), false) AS is_theirs,
                ARRAY (SELECT p.polname::text FROM pg_policy AS p WHERE p.polrelid = c.oid ORDER BY 1) AS policies,
                COALESCE((
                    SELECT count(*) = 1 AND bool_and(
                        p.polcmd = '*' AND p.polpermissive AND p.polroles = '{0}' AND p.polwithcheck IS NULL
                        AND pg_get_expr(p.polqual, p.polrelid) = $1
                    )
                    FROM pg_policy AS p WHERE p.polrelid = c.oid
                ), false) AS is_as_given,
                ARRAY (
                    SELECT may
                    FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS may
                    WHERE has_table_privilege(r.oid, c.oid, may)
                ) AS may
         FROM pg_class AS c LEFT JOIN pg_roles AS r ON r.rolname = (SELECT tenant_role())
         WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
         ORDER BY 1",
    )
    .bind(POLICY)
    .fetch_all(connection)
    .await?;
    rows.iter().filter_map(|row| Table::read(row).transpose()).collect()
}

fn of_tables(tables: &[Table], has_role: bool) -> Vec<Gap> {
    let named = |is_so: &dyn Fn(&&Table) -> bool| -> Vec<String> {
        tables.iter().filter(is_so).map(|table| table.name.clone()).collect()
    };
    let differing = |which: usize| -> Vec<String> {
        // What an owner may is told with that.
        let others = tables.iter().filter(|table| has_role && !table.is_theirs);
        let found = others.map(|table| (&table.name, table.differences()[which].clone()));
        found.filter(|(_, rights)| !rights.is_empty()).map(|(name, rights)| format!("{name} ({rights})")).collect()
    };
    let other = tables.iter().filter(|table| table.is_walled() && !table.is_as_given);
    let other = other.map(|table| format!("{} ({})", table.name, table.policies.join(", "))).collect();
    let found = [
        Gap::Owns(named(&|table| has_role && table.is_theirs)),
        Gap::Open(named(&|table| table.is_walled() && !table.has_security)),
        Gap::OtherPolicy(other),
        Gap::MayMore(differing(0)),
        Gap::MayLess(differing(1)),
        Gap::HidesFromUs(named(&|table| table.hides_from_us)),
    ];
    found.into_iter().filter(|gap| !gap.is_empty()).collect()
}

impl Gap {
    fn is_empty(&self) -> bool {
        match self {
            Self::Owns(names)
            | Self::Open(names)
            | Self::OtherPolicy(names)
            | Self::MayMore(names)
            | Self::MayLess(names)
            | Self::HidesFromUs(names)
            | Self::Strangers(names) => names.is_empty(),
            Self::Unbound(_) | Self::LogsIn | Self::WeBypass => false,
        }
    }
}

/// The tenants' roles of other databases that have rights here, as a copy of a database brings them.
async fn strangers(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT DISTINCT r.rolname::text
         FROM pg_class AS c
         CROSS JOIN LATERAL aclexplode(c.relacl) AS a
         JOIN pg_roles AS r ON r.oid = a.grantee
         WHERE c.relnamespace = current_schema()::regnamespace AND r.rolname ~ '^soma_tenant_[0-9]+$'
           -- Asked once: it looks through all databases, and a server may have hundreds of them, each with its role.
           AND r.rolname <> (SELECT tenant_role())
         ORDER BY 1",
    )
    .fetch_all(connection)
    .await
}
