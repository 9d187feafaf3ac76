-- What could not be carried on.

CREATE TABLE dlq_messages (
    id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant        text        NOT NULL,
    -- The dead-letter topic: the one the record was for, and `.dlq`.
    topic         text        NOT NULL,
    partition_key text,
    headers       jsonb       NOT NULL DEFAULT '{}',
    event         jsonb       NOT NULL,
    error         text        NOT NULL,
    attempts      integer     NOT NULL,
    -- The place in the log from which it was read, if it came that far.
    partition     integer,
    "offset"      bigint,
    created_at    timestamptz NOT NULL
);

CREATE INDEX dlq_messages_topic ON dlq_messages (topic, id DESC);
CREATE INDEX dlq_messages_tenant ON dlq_messages (tenant, topic, id DESC);
