-- Notes when certificates must be looked at anew, and their places in status lists (primary key, HOT where due_at
-- stays).
INSERT INTO outlook (map_key, holds_from, due_at, said, places)
SELECT encode(head, 'hex')::uuid, holds_from, due_at, said, places
FROM unnest(
    %(heads)s::bytea[], %(holds_from)s::bigint[], %(due_at)s::bigint[], %(said)s::boolean[],
    %(places)s::bytea[]
) AS seen (head, holds_from, due_at, said, places)
ON CONFLICT (map_key) DO UPDATE
SET holds_from = excluded.holds_from, due_at = excluded.due_at, said = excluded.said,
    places = excluded.places
