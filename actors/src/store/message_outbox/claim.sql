-- Walks the keys that have unsent rows, from the one after ($1, $2), at most $3 of them. A key belongs to whoever has
-- locked its first unsent row; its rows are taken in their order, at most $5 of a key and $6 in all. The walk goes no
-- further than it takes to find those. If it found fewer, its last key comes with every row, and alone if nothing could be
-- claimed.
WITH RECURSIVE walk AS (
    (
        SELECT topic, partition_key, id, next_attempt_at, 1::bigint AS place
        FROM message_outbox
        WHERE status IN ('pending', 'sending') AND (topic, partition_key) > ($1, $2)
        ORDER BY topic, partition_key, id
        LIMIT 1
    )
    UNION ALL
    SELECT next.topic, next.partition_key, next.id, next.next_attempt_at, walk.place + 1
    FROM walk
    CROSS JOIN LATERAL (
        SELECT topic, partition_key, id, next_attempt_at
        FROM message_outbox
        WHERE status IN ('pending', 'sending') AND (topic, partition_key) > (walk.topic, walk.partition_key)
        ORDER BY topic, partition_key, id
        LIMIT 1
    ) AS next
    WHERE walk.place < $3
),
head AS (
    SELECT held.topic, held.partition_key
    FROM walk
    CROSS JOIN LATERAL (
        -- Looked at again once it is locked: another claim may just have ended.
        SELECT topic, partition_key
        FROM message_outbox
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
        FROM message_outbox
        WHERE status IN ('pending', 'sending') AND topic = head.topic AND partition_key = head.partition_key
        ORDER BY id
        LIMIT $5
    ) AS unsent
    LIMIT $6
),
claimed AS (
    UPDATE message_outbox
    SET status = 'sending', claim = $7, next_attempt_at = $8, updated_at = $4
    -- Looked at again: a claimer that was taken for dead may just have settled some of them.
    WHERE id = ANY (ARRAY (SELECT id FROM batch)) AND status IN ('pending', 'sending')
    RETURNING id, tenant, session_id, seq, topic, partition_key,
              COALESCE(payload_bytes, convert_to(payload::text, 'UTF8')) AS payload, headers, retry_count, created_at
)
SELECT
    last.topic AS "last_topic?", last.partition_key AS "last_key?", last.place AS "keys_seen?",
    claimed.id AS "id?", claimed.tenant AS "tenant?", claimed.session_id, claimed.seq, claimed.topic AS "topic?",
    claimed.partition_key AS "partition_key?", claimed.payload AS "payload?", claimed.headers AS "headers?",
    claimed.retry_count AS "retry_count?", claimed.created_at AS "created_at?"
FROM (VALUES (true)) AS always
LEFT JOIN (
    SELECT topic, partition_key, place FROM walk WHERE (SELECT count(*) FROM batch) < $6 ORDER BY place DESC LIMIT 1
) AS last ON true
LEFT JOIN claimed ON true
ORDER BY claimed.topic, claimed.partition_key, claimed.id
