-- Who is sending what: a claim leases keys of a queue instead of marking each of its rows.

CREATE TABLE outbox_leases (
    -- The table whose rows wait.
    queue       text        NOT NULL,
    -- Its key: topic and partition key, or tenant and session.
    scope       text        NOT NULL,
    key         text        NOT NULL,
    -- Only who knows it may say what became of the key's rows.
    claim       uuid        NOT NULL,
    -- Then the claimer is taken for dead, and the key is free.
    lease_until timestamptz NOT NULL,
    PRIMARY KEY (queue, scope, key)
);

-- Rows are no longer marked. What an earlier version of the program has marked is its own until the time in next_attempt_at.
