-- Changes what places in status lists say (primary key).
UPDATE status_place
SET status = changed.status
FROM unnest(%(keys)s::bytea[], %(versions)s::integer[], %(statuses)s::smallint[])
    AS changed (map_key, version, status)
WHERE status_place.map_key = changed.map_key AND status_place.version = changed.version
