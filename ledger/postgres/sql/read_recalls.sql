-- Reads recalls from a number on with the entries of their changes (primary keys).
SELECT
    number, recall.log_index, position, certificate, cause_index, cause_position, event, revocation,
    reason, reliance_key, entry.data
FROM recall
JOIN entry ON entry.log_index = cause_index
WHERE number >= %(begin)s
ORDER BY number
LIMIT %(limit)s
