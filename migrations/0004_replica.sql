-- Who reads the log, how far, and what is made of it.

CREATE TABLE event_log_members (
    group_name  text        NOT NULL,
    topic       text        NOT NULL,
    member      uuid        NOT NULL,
    joined_at   timestamptz NOT NULL,
    -- A member that is silent for longer is taken for dead, and its partitions are free.
    lease_until timestamptz NOT NULL,
    PRIMARY KEY (group_name, topic, member)
);

CREATE TABLE event_log_offsets (
    group_name  text    NOT NULL,
    topic       text    NOT NULL,
    partition   integer NOT NULL,
    -- Everything before it is done.
    next_offset bigint  NOT NULL DEFAULT 0,
    owner       uuid,
    -- Rises with each owner: what a former one wants to write down is refused.
    epoch       bigint  NOT NULL DEFAULT 0,
    PRIMARY KEY (group_name, topic, partition)
);

-- What was remembered, as the log told it: one row a memory.
CREATE TABLE memory_replica (
    id            bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant        text             NOT NULL,
    event_id      text             NOT NULL,
    session_id    text,
    persona_id    text,
    role          text,
    coord         text,
    request_id    text,
    trace_id      text,
    payload       jsonb            NOT NULL,
    -- When the record was published, in seconds since 1970.
    wal_timestamp double precision,
    -- Where in the log the newest record of the memory is, and the hash of that record's bytes.
    topic         text             NOT NULL,
    partition     integer          NOT NULL,
    "offset"      bigint           NOT NULL,
    sha256        bytea            NOT NULL,
    created_at    timestamptz      NOT NULL,
    -- When a later record changed it, if one did.
    updated_at    timestamptz
);

CREATE UNIQUE INDEX memory_replica_event ON memory_replica (tenant, event_id);
CREATE INDEX memory_replica_tenant ON memory_replica (tenant, id DESC);
CREATE INDEX memory_replica_session ON memory_replica (tenant, session_id, id DESC);
CREATE INDEX memory_replica_persona ON memory_replica (tenant, persona_id, id DESC) WHERE persona_id IS NOT NULL;
CREATE INDEX memory_replica_newest ON memory_replica (wal_timestamp DESC NULLS LAST);

-- How far the replica is. It changes in the transaction that changes the replica, and only from where it was expected to
-- be: of two that apply the same records one changes nothing.
CREATE TABLE memory_replica_offsets (
    -- Which log: offsets of one say nothing of another.
    source      text        NOT NULL,
    topic       text        NOT NULL,
    partition   integer     NOT NULL,
    -- Everything before it is applied.
    next_offset bigint      NOT NULL DEFAULT 0,
    updated_at  timestamptz NOT NULL,
    PRIMARY KEY (source, topic, partition)
);

-- Exports that were ordered and are fetched later. What one has found so far is in export_chunks.
CREATE TABLE export_jobs (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant      text        NOT NULL,
    status      text        NOT NULL
        CHECK (status IN ('queued', 'running', 'completed', 'failed', 'cancelled', 'expired')),
    -- Which memories, and at most how many.
    params      jsonb       NOT NULL,
    max_rows    bigint      NOT NULL,
    -- How far it is: rows from this one on are done with. At the end: where the next export goes on, if there is more.
    cursor      bigint,
    total       bigint,
    row_count   bigint      NOT NULL DEFAULT 0,
    byte_size   bigint      NOT NULL DEFAULT 0,
    chunks      integer     NOT NULL DEFAULT 0,
    -- The checksum of the lines so far, as it stands between two of them; and at the end that of all bytes.
    digest      bytea,
    sha256      bytea,
    -- Who works on a page of it, until when that one is not taken for dead, and how often it was begun since the last page.
    claim       uuid,
    lease_until timestamptz,
    tries       integer     NOT NULL DEFAULT 0,
    error_code  text,
    error       text,
    -- Who asked.
    subject     text,
    request_id  uuid        NOT NULL,
    ip          inet,
    created_at  timestamptz NOT NULL,
    started_at  timestamptz,
    updated_at  timestamptz NOT NULL,
    ended_at    timestamptz,
    expires_at  timestamptz
);

CREATE INDEX export_jobs_open ON export_jobs (updated_at, id) WHERE status IN ('queued', 'running');
CREATE INDEX export_jobs_tenant ON export_jobs (tenant, id DESC);
CREATE INDEX export_jobs_kept ON export_jobs (tenant) WHERE status IN ('queued', 'running', 'completed');
CREATE INDEX export_jobs_completed ON export_jobs (expires_at) WHERE status = 'completed';
CREATE INDEX export_jobs_over ON export_jobs (ended_at) WHERE status IN ('failed', 'cancelled', 'expired');
-- Those whose chunks may go.
CREATE INDEX export_jobs_unswept ON export_jobs (id)
    WHERE status IN ('failed', 'cancelled', 'expired') AND chunks > 0;

CREATE TABLE export_chunks (
    tenant text    NOT NULL,
    job_id bigint  NOT NULL,
    number integer NOT NULL,
    data   bytea   NOT NULL,
    PRIMARY KEY (tenant, job_id, number)
);
