-- Reads all histories by certificate, each in ledger order (primary key of transition).
SELECT map_key, log_index, data
FROM transition
ORDER BY map_key, ordinal
