-- Finds the certificates of admitted events by their ids; there is no index on ids, this reads all.
SELECT encode(event_id, 'hex'), type_code, issuer, number
FROM transition
JOIN certificate USING (map_key)
WHERE event_id = ANY(%(event_ids)s) AND log_index < %(size)s
ORDER BY type_code, issuer, number
