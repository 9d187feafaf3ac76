-- As the claim of message_outbox, with sessions as keys: walks those that have unsent rows, from the one after ($1, $2).
WITH RECURSIVE walk AS (
    (
        SELECT tenant, session_id, id, next_attempt_at, 1::bigint AS place
        FROM memory_write_outbox
        WHERE status IN ('pending', 'sending') AND (tenant, session_id) > ($1, $2)
        ORDER BY tenant, session_id, id
        LIMIT 1
    )
    UNION ALL
    SELECT next.tenant, next.session_id, next.id, next.next_attempt_at, walk.place + 1
    FROM walk
    CROSS JOIN LATERAL (
        SELECT tenant, session_id, id, next_attempt_at
        FROM memory_write_outbox
        WHERE status IN ('pending', 'sending') AND (tenant, session_id) > (walk.tenant, walk.session_id)
        ORDER BY tenant, session_id, id
        LIMIT 1
    ) AS next
    WHERE walk.place < $3
),
head AS (
    SELECT held.tenant, held.session_id
    FROM walk
    CROSS JOIN LATERAL (
        SELECT tenant, session_id
        FROM memory_write_outbox
        WHERE id = walk.id AND status IN ('pending', 'sending') AND next_attempt_at <= $4
        FOR UPDATE SKIP LOCKED
    ) AS held
    WHERE walk.next_attempt_at <= $4
),
batch AS (
    SELECT unsent.id
    FROM head
    CROSS JOIN LATERAL (
        SELECT id
        FROM memory_write_outbox
        WHERE status IN ('pending', 'sending') AND tenant = head.tenant AND session_id = head.session_id
        ORDER BY id
        LIMIT $5
    ) AS unsent
    LIMIT $6
),
claimed AS (
    UPDATE memory_write_outbox
    SET status = 'sending', claim = $7, next_attempt_at = $8, updated_at = $4
    -- Looked at again: a claimer that was taken for dead may just have settled some of them.
    WHERE id = ANY (ARRAY (SELECT id FROM batch)) AND status IN ('pending', 'sending')
    RETURNING id, tenant, session_id, seq, persona_id, payload, history, retry_count
)
SELECT
    last.tenant AS "last_tenant?", last.session_id AS "last_session?", last.place AS "keys_seen?",
    claimed.id AS "id?", claimed.tenant AS "tenant?", claimed.session_id AS "session_id?", claimed.seq,
    claimed.persona_id, claimed.payload AS "payload?", claimed.history AS "history?", claimed.retry_count AS "retry_count?"
FROM (VALUES (true)) AS always
LEFT JOIN (
    SELECT tenant, session_id, place FROM walk WHERE (SELECT count(*) FROM batch) < $6 ORDER BY place DESC LIMIT 1
) AS last ON true
LEFT JOIN claimed ON true
ORDER BY claimed.tenant, claimed.session_id, claimed.id
