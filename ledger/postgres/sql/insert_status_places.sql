-- Takes places in status lists; no place is given twice (unique key).
INSERT INTO status_place (map_key, version, list, idx, status)
SELECT *
FROM unnest(
    %(keys)s::bytea[], %(versions)s::integer[], %(lists)s::integer[], %(places)s::integer[],
    %(statuses)s::smallint[]
)
