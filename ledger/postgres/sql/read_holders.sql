-- Reads holders' records by map key (primary key).
SELECT map_key, acts, link
FROM holder
WHERE map_key = ANY(%(keys)s)
