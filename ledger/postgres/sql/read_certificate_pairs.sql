-- Reads a range of the certificates' map as it is now, and whether each changed since a size; locks nothing (primary keys).
SELECT map_key, sha256(%(tag)s || record), EXISTS (
    SELECT FROM transition WHERE transition.map_key = certificate.map_key AND log_index >= %(size)s
)
FROM certificate
WHERE map_key BETWEEN %(first)s AND %(last)s
ORDER BY map_key
