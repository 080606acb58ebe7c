-- Reads one certificate's history below a log index (primary key).
SELECT ordinal, log_index, position, line_hash, data
FROM transition
WHERE map_key = %(key)s AND log_index < %(before)s
ORDER BY ordinal
