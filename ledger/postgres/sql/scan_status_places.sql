-- Reads all places in status lists by certificate (primary key).
SELECT map_key, version, list, idx, status
FROM status_place
ORDER BY map_key, version
