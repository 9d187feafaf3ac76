-- What is known of the newest writing of the memory $2 of the tenant $1, all at one moment. $3 names the log. With $4, only
-- traces that belong to sessions of these subjects are seen: another one's memory of the same id is another memory.
SELECT
    written.status AS "write_status?",
    written.created_at AS "write_created_at?",
    written.updated_at AS "write_updated_at?",
    record.status AS "record_status?",
    record.log_partition,
    record.log_offset,
    record.created_at AS "record_created_at?",
    record.updated_at AS "record_updated_at?",
    applied.next_offset AS "applied?",
    replica.partition AS "replica_partition?",
    replica."offset" AS "replica_offset?",
    replica.sha256 AS "replica_sha256?",
    COALESCE(replica.source, $3) = $3 AS "replica_is_of_this_log!",
    COALESCE(replica.updated_at, replica.created_at) AS replica_changed_at,
    letter.partition AS letter_partition,
    letter."offset" AS letter_offset,
    letter.created_at AS "letter_created_at?"
FROM (VALUES (1)) AS one(row)
LEFT JOIN LATERAL (
    SELECT *
    FROM (
        (
            SELECT id, status, created_at, updated_at
            FROM memory_write_outbox
            WHERE tenant = $1 AND dedupe_key = $2 AND status IN ('pending', 'sending')
              AND ($4::text[] IS NULL OR EXISTS (
                  SELECT FROM session_envelopes AS s
                  WHERE s.tenant = $1 AND s.session_id = memory_write_outbox.session_id AND s.subject = ANY ($4)
              ))
        )
        UNION ALL
        (
            SELECT id, status, created_at, updated_at
            FROM memory_write_outbox
            WHERE tenant = $1 AND dedupe_key = $2 AND status IN ('sent', 'failed')
              AND ($4::text[] IS NULL OR EXISTS (
                  SELECT FROM session_envelopes AS s
                  WHERE s.tenant = $1 AND s.session_id = memory_write_outbox.session_id AND s.subject = ANY ($4)
              ))
            ORDER BY id DESC
            LIMIT 1
        )
        UNION ALL
        (
            SELECT id, status, created_at, updated_at
            FROM memory_write_outbox
            WHERE tenant = $1 AND beside_id = $2
              AND ($4::text[] IS NULL OR EXISTS (
                  SELECT FROM session_envelopes AS s
                  WHERE s.tenant = $1 AND s.session_id = memory_write_outbox.session_id AND s.subject = ANY ($4)
              ))
            ORDER BY id DESC
            LIMIT 1
        )
    ) AS writes
    ORDER BY id DESC
    LIMIT 1
) AS written ON true
LEFT JOIN LATERAL (
    SELECT status, log_partition, log_offset, created_at, updated_at
    FROM message_outbox
    WHERE tenant = $1 AND topic = 'memory.wal' AND dedupe_key = $2
      AND ($4::text[] IS NULL OR EXISTS (
          SELECT FROM session_envelopes AS s
          WHERE s.tenant = $1 AND s.session_id = message_outbox.session_id AND s.subject = ANY ($4)
      ))
    ORDER BY id DESC
    LIMIT 1
) AS record ON true
LEFT JOIN memory_replica_offsets AS applied
  ON applied.source = $3 AND applied.topic = 'memory.wal' AND applied.partition = record.log_partition
LEFT JOIN memory_replica AS replica ON replica.tenant = $1 AND replica.event_id = $2
  AND ($4::text[] IS NULL OR EXISTS (
      SELECT FROM session_envelopes AS s
      WHERE s.tenant = $1 AND s.session_id = CASE
          WHEN replica.session_id ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN replica.session_id::uuid
      END AND s.subject = ANY ($4)
  ))
LEFT JOIN LATERAL (
    SELECT partition, "offset", created_at
    FROM dlq_messages
    WHERE tenant = $1
      AND topic = 'memory.wal.dlq'
      AND memory_id = left($2, 400)
      AND COALESCE(event -> 'payload' ->> 'id', event ->> 'id') = $2
      -- One that takes the memory back is no word of its way.
      AND event ->> 'type' = 'memory.write'
      AND ($4::text[] IS NULL OR EXISTS (
          SELECT FROM session_envelopes AS s
          WHERE s.tenant = $1 AND s.session_id = dlq_messages.session_id AND s.subject = ANY ($4)
      ))
    ORDER BY id DESC
    LIMIT 1
) AS letter ON true
