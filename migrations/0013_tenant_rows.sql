-- The second wall between tenants: whoever works as the role `tenant_role()` sees and writes the rows of one tenant only, the one
-- that `soma.tenant` names. Without that there are no rows. The owner of the tables is not held back: its queries name the
-- tenant, and what carries records on works for all of them.

-- Behind the wall a condition has an index only if its operators are known to tell nobody of the rows they see, which those
-- that look into JSON are not. So what is looked for by what is in there has columns.
ALTER TABLE memory_write_outbox ADD COLUMN beside_id text
    -- The id of a version that waits, or waited, beside another one.
    GENERATED ALWAYS AS (CASE WHEN dedupe_key IS NULL THEN payload ->> 'id' END) STORED;
DROP INDEX memory_write_outbox_beside, memory_write_outbox_waiting;
CREATE INDEX memory_write_outbox_beside ON memory_write_outbox (tenant, beside_id, id) WHERE beside_id IS NOT NULL;
CREATE INDEX memory_write_outbox_waiting ON memory_write_outbox (tenant, beside_id, id)
    WHERE beside_id IS NOT NULL AND status IN ('pending', 'sending');

ALTER TABLE dlq_messages ADD COLUMN memory_id text
    -- The id of the memory that the record tells of. Records of others may have ids of any length, an index may not.
    GENERATED ALWAYS AS (left(COALESCE(event -> 'payload' ->> 'id', event ->> 'id'), 400)) STORED;
DROP INDEX dlq_messages_memory;
CREATE INDEX dlq_messages_memory ON dlq_messages (tenant, memory_id, id) WHERE topic = 'memory.wal.dlq';

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'session_envelopes', 'session_events', 'turns', 'message_outbox', 'memory_write_outbox', 'audit_event',
        'dlq_messages', 'dlq_jobs', 'memory_replica', 'memory_tombstones', 'export_jobs', 'export_chunks', 'api_keys'
    ] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY one_tenant ON %I USING (tenant = NULLIF(current_setting(''soma.tenant'', true), ''''))', name
        );
    END LOOP;
END $$;

-- The role of this database's tenants. Each database has its own: roles are the whole server's, and who may be the tenants of one
-- database is not to be those of another.
CREATE FUNCTION tenant_role() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT 'soma_tenant_' || oid FROM pg_database WHERE datname = current_database()
$$;

-- Makes the role and lets whoever calls this become it, as far as they may. A user that owns a database is not always one that
-- makes roles: then an administrator does, and the next start of the program goes on from there. Safe to repeat.
CREATE FUNCTION raise_tenant_wall() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    ours   CONSTANT text := tenant_role();
    given  text;
    others text;
BEGIN
    -- Processes that start together would change the same rights at once.
    PERFORM pg_advisory_xact_lock(hashtextextended('raise_tenant_wall', 0));
    -- A copy of a database brings the rights of its role along. They go first: whoever may make no role may take these away.
    FOR others IN
        SELECT DISTINCT r.rolname
        FROM pg_class AS c
        CROSS JOIN LATERAL aclexplode(c.relacl) AS a
        JOIN pg_roles AS r ON r.oid = a.grantee
        WHERE c.relnamespace = current_schema()::regnamespace AND r.rolname ~ '^soma_tenant_[0-9]+$' AND r.rolname <> ours
    LOOP
        BEGIN
            EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA %I FROM %I', current_schema(), others);
            EXECUTE format('REVOKE ALL ON ALL SEQUENCES IN SCHEMA %I FROM %I', current_schema(), others);
        EXCEPTION
            WHEN insufficient_privilege THEN NULL;
        END;
    END LOOP;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = ours) THEN
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', ours);
        EXCEPTION
            WHEN insufficient_privilege THEN RETURN;
        END;
    END IF;
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        BEGIN
            EXECUTE format('GRANT %I TO CURRENT_USER', ours);
        EXCEPTION
            -- Somebody else may have done that.
            WHEN insufficient_privilege THEN NULL;
        END;
    END IF;
    FOREACH given IN ARRAY ARRAY[
        format('USAGE ON SCHEMA %I', current_schema()),
        'SELECT ON session_events, turns, export_chunks',
        -- What is written there stays.
        'SELECT, INSERT ON audit_event',
        'SELECT, UPDATE ON session_envelopes',
        'SELECT, INSERT, UPDATE ON dlq_jobs, export_jobs',
        'SELECT, UPDATE, DELETE ON dlq_messages',
        'SELECT, INSERT, DELETE ON message_outbox',
        'SELECT, INSERT, UPDATE, DELETE ON memory_write_outbox, memory_replica, memory_tombstones, api_keys',
        -- These are nobody's: how far the replica is, and which keys of the queues are being sent.
        'SELECT ON memory_replica_offsets, outbox_leases',
        -- Numbers of versions.
        format('USAGE ON SEQUENCE %s', pg_get_serial_sequence('memory_write_outbox', 'id'))
    ] LOOP
        BEGIN
            EXECUTE format('GRANT %s TO %I', given, ours);
        EXCEPTION
            WHEN insufficient_privilege THEN NULL;
        END;
    END LOOP;
END $$;

SELECT raise_tenant_wall();
