-- Finds the entry of an admitted event by its id; there is no index on ids, this reads all.
SELECT log_index
FROM transition
WHERE event_id = %(event_id)s AND log_index < %(size)s
LIMIT 2
