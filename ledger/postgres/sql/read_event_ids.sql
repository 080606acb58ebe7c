-- Reads the event ids in some certificates' histories (primary key of transition).
SELECT map_key, event_id, line_hash
FROM transition
WHERE map_key = ANY(%(keys)s)
