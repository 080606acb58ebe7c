-- Notes when certificates must be looked at anew (primary key).
INSERT INTO outlook (map_key, holds_from, due_at)
SELECT *
FROM unnest(%(keys)s::bytea[], %(holds_from)s::bigint[], %(due_at)s::bigint[])
ON CONFLICT (map_key) DO UPDATE SET holds_from = excluded.holds_from, due_at = excluded.due_at
