-- Sessions, their history, their turns, and what is to be carried on from them.
-- The tenant comes first in every key. Times and ids come from the application.

CREATE TABLE session_envelopes (
    tenant       text        NOT NULL,
    session_id   uuid        NOT NULL,
    title        text,
    -- The title in lower case, by the rules of Unicode whatever the database's locale is: what searches look at.
    title_folded text,
    persona_id   text,
    subject      text,
    issuer       text,
    scope        text,
    metadata     jsonb       NOT NULL DEFAULT '{}',
    analysis     jsonb       NOT NULL DEFAULT '{}',
    paused       boolean     NOT NULL DEFAULT false,
    -- The fence: only the owner that took the newest epoch can append.
    owner        text,
    epoch        bigint      NOT NULL,
    lease_until  timestamptz,
    last_seq     bigint      NOT NULL DEFAULT 0,
    -- Events and turns up to this number were erased by a reset or a deletion: nobody may read them any more …
    erased_seq   bigint      NOT NULL DEFAULT 0,
    -- … and up to this one their rows are gone too.
    swept_seq    bigint      NOT NULL DEFAULT 0,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    -- A deleted session leaves this row as its tombstone.
    deleted_at   timestamptz,
    PRIMARY KEY (tenant, session_id)
) WITH (fillfactor = 80);

CREATE INDEX session_envelopes_recent ON session_envelopes (tenant, updated_at DESC, session_id DESC)
    WHERE deleted_at IS NULL;
CREATE INDEX session_envelopes_unswept ON session_envelopes (tenant, session_id) WHERE swept_seq < erased_seq;

CREATE TABLE session_events (
    tenant          text        NOT NULL,
    session_id      uuid        NOT NULL,
    seq             bigint      NOT NULL CHECK (seq > 0),
    event_id        uuid        NOT NULL,
    turn_seq        bigint,
    type            text        NOT NULL CHECK (type <> 'error'),
    terminal        boolean     NOT NULL DEFAULT false,
    idempotency_key text,
    body_hash       bytea,
    occurred_at     timestamptz NOT NULL,
    payload         jsonb       NOT NULL,
    PRIMARY KEY (tenant, session_id, seq)
);

CREATE UNIQUE INDEX session_events_event_id ON session_events (tenant, session_id, event_id);
CREATE UNIQUE INDEX session_events_idempotency ON session_events (tenant, session_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
-- Every turn ends in exactly one terminal event.
CREATE UNIQUE INDEX session_events_terminal ON session_events (tenant, session_id, turn_seq) WHERE terminal;

CREATE TABLE turns (
    tenant      text        NOT NULL,
    session_id  uuid        NOT NULL,
    turn_seq    bigint      NOT NULL,
    event_id    uuid        NOT NULL,
    attempt     integer     NOT NULL DEFAULT 0,
    state       text        NOT NULL CHECK (state IN ('queued', 'running', 'final', 'stopped', 'error')),
    usage       jsonb,
    error_code  text,
    started_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant, session_id, turn_seq)
) WITH (fillfactor = 80);

CREATE INDEX turns_open ON turns (started_at, tenant, session_id) WHERE state IN ('queued', 'running');

CREATE TABLE message_outbox (
    id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant          text        NOT NULL,
    session_id      uuid,
    seq             bigint,
    topic           text        NOT NULL,
    partition_key   text        NOT NULL,
    payload         jsonb,
    -- In place of the payload: a record that goes out exactly as it came, byte by byte.
    payload_bytes   bytea,
    headers         jsonb       NOT NULL DEFAULT '{}',
    dedupe_key      text,
    status          text        NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'sending', 'sent', 'failed')),
    retry_count     integer     NOT NULL DEFAULT 0,
    -- When the row may be sent; while a claim has it, when that claim is taken for dead.
    next_attempt_at timestamptz NOT NULL,
    claim           uuid,
    last_error      text,
    last_error_at   timestamptz,
    -- Where in the log it is, once it was sent.
    log_partition   integer,
    log_offset      bigint,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    CHECK (num_nonnulls(payload, payload_bytes) = 1)
);

-- The inbound record and the memory record of one message share a key, so the topic is part of it. Only what is unsent
-- counts: a later version must not be lost for an earlier one that was sent or given up. Records of memories are put here
-- once each, with what settles the write, so a second one under a key is a later version: it goes out behind the first.
CREATE UNIQUE INDEX message_outbox_dedupe ON message_outbox (tenant, topic, dedupe_key)
    WHERE dedupe_key IS NOT NULL AND topic <> 'memory.wal' AND status IN ('pending', 'sending');
-- A claim walks the keys that have unsent rows; what was sent is in no index that it reads.
CREATE INDEX message_outbox_keys ON message_outbox (topic, partition_key, id) WHERE status IN ('pending', 'sending');
CREATE INDEX message_outbox_done ON message_outbox (updated_at) WHERE status IN ('sent', 'failed');
-- What became of a memory's record is asked by the memory's id.
CREATE INDEX message_outbox_memory ON message_outbox (tenant, dedupe_key, id)
    WHERE topic = 'memory.wal' AND dedupe_key IS NOT NULL;

CREATE TABLE memory_write_outbox (
    id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant          text        NOT NULL,
    session_id      uuid        NOT NULL,
    seq             bigint,
    persona_id      text,
    payload         jsonb       NOT NULL,
    idempotency_key text        NOT NULL,
    dedupe_key      text,
    -- What it went through as a dead letter before, see dlq_messages.
    history         jsonb       NOT NULL DEFAULT '[]',
    status          text        NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'sending', 'sent', 'failed')),
    retry_count     integer     NOT NULL DEFAULT 0,
    -- When the row may be sent; while a claim has it, when that claim is taken for dead.
    next_attempt_at timestamptz NOT NULL,
    claim           uuid,
    last_error      text,
    last_error_at   timestamptz,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL
);

CREATE UNIQUE INDEX memory_write_outbox_dedupe ON memory_write_outbox (tenant, dedupe_key)
    WHERE dedupe_key IS NOT NULL AND status IN ('pending', 'sending');
-- What became of a memory is asked by its id, too; of one that waited beside another version, by the id inside it.
CREATE INDEX memory_write_outbox_memory ON memory_write_outbox (tenant, dedupe_key, id)
    WHERE dedupe_key IS NOT NULL AND status IN ('sent', 'failed');
CREATE INDEX memory_write_outbox_beside ON memory_write_outbox (tenant, (payload ->> 'id'), id) WHERE dedupe_key IS NULL;
CREATE INDEX memory_write_outbox_keys ON memory_write_outbox (tenant, session_id, id)
    WHERE status IN ('pending', 'sending');
CREATE INDEX memory_write_outbox_done ON memory_write_outbox (updated_at) WHERE status IN ('sent', 'failed');

CREATE TABLE audit_event (
    id             bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ts             timestamptz NOT NULL,
    tenant         text        NOT NULL,
    session_id     uuid,
    request_id     text,
    trace_id       text,
    subject        text,
    action         text        NOT NULL,
    resource       text        NOT NULL,
    target_id      text,
    details        jsonb,
    diff           jsonb,
    ip             inet,
    user_agent     text
);

CREATE INDEX audit_event_tenant ON audit_event (tenant, ts DESC);
CREATE INDEX audit_event_session ON audit_event (tenant, session_id);

-- Offsets come from a counter row that stays locked until commit: a reader never sees a later offset before an earlier one.
CREATE TABLE event_log_partitions (
    topic       text    NOT NULL,
    partition   integer NOT NULL,
    next_offset bigint  NOT NULL DEFAULT 0,
    PRIMARY KEY (topic, partition)
);

CREATE TABLE event_log (
    topic      text        NOT NULL,
    partition  integer     NOT NULL,
    "offset"   bigint      NOT NULL,
    key        text,
    headers    jsonb       NOT NULL DEFAULT '{}',
    payload    bytea       NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (topic, partition, "offset")
);
