-- Reads one certificate's history in ledger order (primary key of transition).
SELECT ordinal, log_index, position, line_hash, data
FROM transition
WHERE map_key = %(key)s
ORDER BY ordinal
