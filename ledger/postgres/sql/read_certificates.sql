-- Reads current states by map key (primary key).
SELECT map_key, record, holder
FROM certificate
WHERE map_key = ANY(%(keys)s)
