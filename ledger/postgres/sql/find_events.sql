-- Finds histories that may hold events by the first 4 bytes of their ids; there is no index on ids, this reads all.
SELECT history
FROM certificate
WHERE EXISTS (SELECT FROM unnest(%(begins)s::bytea[]) AS first WHERE position(first IN history) > 0)
