-- A page of one tenant's memories, the newest first: at most $12 rows, and of them those whose payloads begin before $13
-- bytes. With $14, only those of these rows.
SELECT
    id AS "id!",
    event_id AS "event_id!",
    session_id,
    persona_id,
    tenant AS "tenant!",
    role,
    coord,
    request_id,
    trace_id,
    payload AS "payload!",
    wal_timestamp,
    created_at AS "created_at!"
FROM (
    SELECT
        id,
        event_id,
        session_id,
        persona_id,
        tenant,
        role,
        coord,
        request_id,
        trace_id,
        payload,
        wal_timestamp,
        created_at,
        sum(octet_length(payload)) OVER (ORDER BY id DESC) - octet_length(payload) AS bytes_before
    FROM (
        SELECT
            id,
            event_id,
            session_id,
            persona_id,
            tenant,
            role,
            coord,
            request_id,
            trace_id,
            payload::text AS payload,
            wal_timestamp,
            created_at
        FROM memory_replica
        WHERE tenant = $1
          AND ($2::bigint IS NULL OR id < $2)
          AND ($3::text IS NULL OR tenant = $3)
          AND ($4::text IS NULL OR persona_id = $4)
          AND ($5::text IS NULL OR role = $5)
          AND ($6::text IS NULL OR session_id = $6)
          AND ($7::text IS NULL OR payload -> 'metadata' ->> 'universe_id' = $7)
          AND ($8::text IS NULL OR COALESCE(payload ->> 'namespace', payload -> 'metadata' ->> 'namespace') = $8)
          AND ($9::text IS NULL OR payload::text ILIKE $9)
          AND ($10::double precision IS NULL OR wal_timestamp >= $10)
          AND ($11::double precision IS NULL OR wal_timestamp <= $11)
          AND ($14::bigint[] IS NULL OR id = ANY ($14))
        ORDER BY id DESC
        LIMIT $12
    ) AS page
) AS measured
WHERE bytes_before < $13
ORDER BY id DESC
