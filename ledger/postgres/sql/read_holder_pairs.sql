-- Reads a range of the holders' map as it is now, and whether each changed since a size; locks nothing (primary keys).
SELECT map_key, sha256(%(tag)s || int8send(acts) || link), EXISTS (
    SELECT FROM holder_act WHERE holder_act.map_key = holder.map_key AND log_index >= %(size)s
)
FROM holder
WHERE map_key BETWEEN %(first)s AND %(last)s
ORDER BY map_key
