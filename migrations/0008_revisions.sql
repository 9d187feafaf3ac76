-- The order in which a memory was written and taken back: every writing and every deletion has a number, and the higher one
-- is the later one, by whichever way it comes. A database that takes the place of an earlier one goes on with higher numbers
-- than that, so they begin with the microseconds since 1970.
SELECT setval(
    pg_get_serial_sequence('memory_write_outbox', 'id'),
    GREATEST((SELECT COALESCE(max(id), 1) FROM memory_write_outbox), (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
);

-- The number of what was sent again as it was, which is as old as it was: else the row's own is the memory's revision.
ALTER TABLE memory_write_outbox ADD COLUMN revision bigint;

-- Versions that wait beside an earlier one.
CREATE INDEX memory_write_outbox_waiting ON memory_write_outbox (tenant, (payload ->> 'id'), id)
    WHERE dedupe_key IS NULL AND status IN ('pending', 'sending');

-- A record of another writer has no such number, and rows from before have none: then its place and its time tell. Offsets
-- are of one log: what has no source is of the log that is read.
ALTER TABLE memory_replica ADD COLUMN revision bigint, ADD COLUMN source text;

-- Memories that were taken back: an earlier record that still comes does not bring them back.
CREATE TABLE memory_tombstones (
    tenant        text        NOT NULL,
    event_id      text        NOT NULL,
    revision      bigint,
    -- When it was taken back, in seconds since 1970, and where in which log that is said.
    wal_timestamp double precision,
    source        text        NOT NULL,
    topic         text        NOT NULL,
    partition     integer     NOT NULL,
    "offset"      bigint      NOT NULL,
    created_at    timestamptz NOT NULL,
    PRIMARY KEY (tenant, event_id)
);

CREATE INDEX memory_tombstones_age ON memory_tombstones (created_at);

-- Whether the first of two records of one memory is the earlier one: by their numbers, else in one partition of one log by
-- their offsets, else by their times.
CREATE FUNCTION memory_precedes(
    revision bigint, source text, topic text, partition integer, "offset" bigint, wal_timestamp double precision,
    other_revision bigint, other_source text, other_topic text, other_partition integer, other_offset bigint,
    other_timestamp double precision
) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN revision IS NOT NULL AND other_revision IS NOT NULL THEN revision < other_revision
        WHEN COALESCE(source, other_source) = COALESCE(other_source, source) AND topic = other_topic
            AND partition = other_partition
        THEN "offset" < other_offset
        ELSE COALESCE(wal_timestamp, '-infinity') < COALESCE(other_timestamp, '-infinity')
    END
$$;
