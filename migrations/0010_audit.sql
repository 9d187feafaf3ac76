-- The audit trail: more of who did what, and chains of sums from which nothing can be taken unseen.

ALTER TABLE audit_event
    ADD COLUMN issuer      text,
    -- What the row is a step of: a turn, or an order that goes on by itself.
    ADD COLUMN workflow_id text,
    -- SHA-256 of what the policy was asked when it allowed this.
    ADD COLUMN decision    text,
    -- The transaction that wrote the row. Once all earlier ones are over, no row can come in before it any more.
    ADD COLUMN xact        xid8 NOT NULL DEFAULT pg_current_xact_id(),
    DROP CONSTRAINT audit_event_pkey,
    ADD PRIMARY KEY (tenant, id);

-- Lists go by number.
DROP INDEX audit_event_tenant;
-- The order in which rows are sealed.
CREATE INDEX audit_event_xact ON audit_event (xact, id);

-- The chain of each tenant: a link for each row of audit_event, made after that was committed. A sum covers the one before.
CREATE TABLE audit_seal (
    tenant   text     NOT NULL,
    number   bigint   NOT NULL CHECK (number > 0),
    event_id bigint   NOT NULL,
    -- How the sums were made.
    version  smallint NOT NULL,
    -- SHA-256 of the row alone …
    content  bytea    NOT NULL,
    -- … and of everything up to it.
    hash     bytea    NOT NULL,
    PRIMARY KEY (tenant, number)
);

CREATE UNIQUE INDEX audit_seal_event ON audit_seal (tenant, event_id);

-- The end of each chain, and how far it was told to the log.
CREATE TABLE audit_chain (
    tenant       text   PRIMARY KEY,
    number       bigint NOT NULL,
    hash         bytea  NOT NULL,
    checkpointed bigint NOT NULL DEFAULT 0
);

CREATE INDEX audit_chain_untold ON audit_chain (tenant) WHERE checkpointed < number;

-- How far the sealing is, by audit_event_xact. Whoever has locked this row seals.
CREATE TABLE audit_sealer (
    one  boolean PRIMARY KEY DEFAULT true CHECK (one),
    xact xid8    NOT NULL,
    id   bigint  NOT NULL
);

INSERT INTO audit_sealer (xact, id) VALUES ('0', 0);
