-- The numbers of the next $12 memories of one tenant, the newest first. The conditions are those of a page.
SELECT id
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
ORDER BY id DESC
LIMIT $12
