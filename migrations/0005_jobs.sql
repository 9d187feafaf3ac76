-- Work that was ordered and goes on by itself.

-- Orders to send many dead letters again may be ended on their way.
ALTER TABLE dlq_jobs DROP CONSTRAINT dlq_jobs_status_check;
ALTER TABLE dlq_jobs ADD CONSTRAINT dlq_jobs_status_check CHECK (status IN ('running', 'completed', 'cancelled'));
CREATE INDEX dlq_jobs_over ON dlq_jobs (updated_at) WHERE status <> 'running';

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
