-- The newest entries of each kind, together in the order of time. Of one instant comes first what causes the others.
WITH session AS (
    -- As text, too: behind the wall between tenants a condition with a cast in it has no index.
    SELECT tenant, session_id, session_id::text AS session, erased_seq
    FROM session_envelopes
    WHERE tenant = $1 AND session_id = $2 AND ($3::text[] IS NULL OR subject = ANY ($3))
),
said AS (
    SELECT e.tenant, e.occurred_at, e.seq, e.event_id, e.event_id::text AS event, e.type, e.turn_seq
    FROM session AS s JOIN session_events AS e
      ON e.tenant = s.tenant AND e.session_id = s.session_id AND e.seq > s.erased_seq
    ORDER BY e.seq DESC LIMIT $4
),
-- What waits is found by the session, what is done by the event.
published AS (
    SELECT o.* FROM session AS s JOIN message_outbox AS o ON o.partition_key = s.session AND o.tenant = s.tenant
    WHERE o.topic = ANY ($6) AND o.status IN ('pending', 'sending')
    UNION ALL
    SELECT o.* FROM said AS e JOIN message_outbox AS o ON o.tenant = e.tenant AND o.dedupe_key = e.event
    WHERE o.topic = 'memory.wal' AND o.status IN ('sent', 'failed')
),
remembered AS (
    SELECT m.* FROM session AS s JOIN memory_write_outbox AS m ON m.tenant = s.tenant AND m.session_id = s.session_id
    WHERE m.status IN ('pending', 'sending')
    UNION ALL
    SELECT m.* FROM said AS e JOIN memory_write_outbox AS m ON m.tenant = e.tenant AND m.dedupe_key = e.event
    WHERE m.status IN ('sent', 'failed')
),
entry (at, rank, place, kind, entry) AS (
    SELECT occurred_at, 1, seq, 'event', jsonb_build_object(
        'seq', seq, 'event_id', event_id, 'type', type, 'turn_seq', turn_seq)
    FROM said
    UNION ALL
    (SELECT a.ts, 2, a.id, 'audit', jsonb_build_object(
         'id', a.id, 'action', a.action, 'resource', a.resource, 'target_id', a.target_id, 'subject', a.subject,
         'request_id', a.request_id, 'trace_id', a.trace_id, 'workflow_id', a.workflow_id, 'decision', a.decision,
         'details', a.details, 'diff', a.diff)
     FROM session AS s JOIN audit_event AS a ON a.tenant = s.tenant AND a.session_id = s.session_id
     WHERE $5
     ORDER BY a.id DESC LIMIT $4)
    UNION ALL
    (SELECT CASE WHEN t.state IN ('queued', 'running') THEN t.started_at ELSE t.updated_at END, 3, t.turn_seq, 'turn',
         jsonb_build_object('turn_seq', t.turn_seq, 'event_id', t.event_id, 'state', t.state, 'attempt', t.attempt,
         'usage', t.usage, 'error_code', t.error_code, 'started_at', t.started_at)
     FROM session AS s JOIN turns AS t
       ON t.tenant = s.tenant AND t.session_id = s.session_id AND t.turn_seq > s.erased_seq
     ORDER BY t.turn_seq DESC LIMIT $4)
    UNION ALL
    (SELECT updated_at, 4, id, 'outbox', jsonb_build_object(
         'topic', topic, 'seq', seq, 'status', status, 'retry_count', retry_count, 'last_error', last_error,
         'partition', log_partition, 'offset', log_offset, 'created_at', created_at)
     FROM published
     ORDER BY id DESC LIMIT $4)
    UNION ALL
    (SELECT updated_at, 5, id, 'memory', jsonb_build_object(
         'event_id', payload ->> 'id', 'seq', seq, 'status', status, 'retry_count', retry_count,
         'last_error', last_error, 'created_at', created_at)
     FROM remembered
     ORDER BY id DESC LIMIT $4)
    UNION ALL
    (SELECT r.created_at, 6, r.id, 'replica', jsonb_build_object(
         'event_id', r.event_id, 'role', r.role, 'partition', r.partition, 'offset', r."offset")
     FROM session AS s JOIN memory_replica AS r ON r.tenant = s.tenant AND r.session_id = s.session
     ORDER BY r.id DESC LIMIT $4)
)
SELECT at AS "at!", kind AS "kind!", entry AS "entry!"
FROM entry
ORDER BY at, rank, place
