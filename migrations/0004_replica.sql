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
