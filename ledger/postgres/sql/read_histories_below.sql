-- Reads the histories of certificates below a log index, in ledger order (primary key of transition).
SELECT map_key, log_index, data
FROM transition
WHERE map_key = ANY (%(keys)s::bytea[]) AND log_index < %(end)s
ORDER BY map_key, ordinal
