-- What could not be carried on.

CREATE TABLE dlq_messages (
    id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant        text        NOT NULL,
    -- The dead-letter topic: the one the record was for, and `.dlq`.
    topic         text        NOT NULL,
    source_topic  text        NOT NULL,
    partition_key text,
    headers       jsonb       NOT NULL DEFAULT '{}',
    -- The record byte by byte, and the same as JSON where it is that.
    original      bytea       NOT NULL,
    event         jsonb,
    error         text        NOT NULL,
    error_class   text        NOT NULL,
    error_code    text,
    -- How often it was tried in all, and each time it was given up: `[{at, error, attempts}]`, oldest first.
    attempts      integer     NOT NULL,
    history       jsonb       NOT NULL DEFAULT '[]',
    -- What gave it up, which is also where it goes back to.
    origin        text        NOT NULL CHECK (origin IN ('outbox', 'memory', 'replicator')),
    session_id    uuid,
    seq           bigint,
    -- The place in the log from which it was read, if it came that far.
    partition     integer,
    "offset"      bigint,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    -- A memory goes back into the queue of its session.
    CHECK (origin <> 'memory' OR session_id IS NOT NULL)
);

CREATE INDEX dlq_messages_topic ON dlq_messages (topic, id DESC);
CREATE INDEX dlq_messages_tenant ON dlq_messages (tenant, topic, id DESC);
-- By the id of the memory. Records of others may have ids of any length, an index may not.
CREATE INDEX dlq_messages_memory ON dlq_messages
    (tenant, left(COALESCE(event -> 'payload' ->> 'id', event ->> 'id'), 400), id) WHERE topic = 'memory.wal.dlq';

-- Orders to send many dead letters again, worked off page by page, oldest letter first.
CREATE TABLE dlq_jobs (
    id             uuid        PRIMARY KEY,
    tenant         text        NOT NULL,
    topic          text        NOT NULL,
    status         text        NOT NULL CHECK (status IN ('running', 'completed')),
    -- Which letters: as at the time of the order, never a later one.
    containing     text,
    created_from   timestamptz,
    created_before timestamptz,
    upto           bigint      NOT NULL,
    max_letters    bigint      NOT NULL,
    -- How far it is: letters up to this number are done with.
    place          bigint      NOT NULL DEFAULT 0,
    total          bigint      NOT NULL,
    reprocessed    bigint      NOT NULL DEFAULT 0,
    failed         bigint      NOT NULL DEFAULT 0,
    -- Who asked.
    subject        text,
    request_id     uuid        NOT NULL,
    ip             inet,
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL
);

CREATE INDEX dlq_jobs_running ON dlq_jobs (created_at, id) WHERE status = 'running';
CREATE INDEX dlq_jobs_tenant ON dlq_jobs (tenant, topic, created_at DESC);
