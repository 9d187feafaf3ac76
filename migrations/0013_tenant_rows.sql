-- The second wall between tenants: whoever works as the role `soma_tenant` sees and writes the rows of one tenant only, the one
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

-- Makes the role and lets whoever calls this become it, as far as they may. Roles are of the whole server, and a user that owns
-- a database is not always one that makes them: then an administrator does, and the next start of the program goes on from
-- there. Safe to repeat, also by several databases of one server at once.
CREATE FUNCTION raise_tenant_wall() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- Processes that start together would change the same rights at once.
    PERFORM pg_advisory_xact_lock(hashtextextended('raise_tenant_wall', 0));
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'soma_tenant') THEN
        BEGIN
            CREATE ROLE soma_tenant NOLOGIN;
        EXCEPTION
            -- Another database was faster.
            WHEN duplicate_object OR unique_violation THEN NULL;
            WHEN insufficient_privilege THEN RETURN;
        END;
    END IF;
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        BEGIN
            GRANT soma_tenant TO CURRENT_USER;
        EXCEPTION
            -- Somebody else may have done that, or does right now.
            WHEN insufficient_privilege OR unique_violation OR internal_error THEN NULL;
        END;
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO soma_tenant', current_schema());
    GRANT SELECT ON session_events, turns, export_chunks TO soma_tenant;
    -- What is written there stays.
    GRANT SELECT, INSERT ON audit_event TO soma_tenant;
    GRANT SELECT, UPDATE ON session_envelopes TO soma_tenant;
    GRANT SELECT, INSERT, UPDATE ON dlq_jobs, export_jobs TO soma_tenant;
    GRANT SELECT, UPDATE, DELETE ON dlq_messages TO soma_tenant;
    GRANT SELECT, INSERT, DELETE ON message_outbox TO soma_tenant;
    GRANT SELECT, INSERT, UPDATE, DELETE ON memory_write_outbox, memory_replica, memory_tombstones, api_keys TO soma_tenant;
    -- These are nobody's: how far the replica is, and which keys of the queues are being sent.
    GRANT SELECT ON memory_replica_offsets, outbox_leases TO soma_tenant;
    -- Numbers of versions.
    EXECUTE format('GRANT USAGE ON SEQUENCE %s TO soma_tenant', pg_get_serial_sequence('memory_write_outbox', 'id'));
EXCEPTION
    WHEN insufficient_privilege THEN NULL;
END $$;

SELECT raise_tenant_wall();
