-- Reads the places of certificates in status lists (primary key).
SELECT map_key, version, list, idx, status
FROM status_place
WHERE map_key = ANY (%(keys)s::bytea[])
