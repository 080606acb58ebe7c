-- Reads recalls from a number on with what the change says (primary keys; transition by map key).
SELECT
    recall.number, recall.log_index, recall.position, recall.certificate, recall.cause_index,
    recall.cause_position, recall.reliance_key, transition.data, entry.data
FROM recall
JOIN transition
    ON transition.map_key = recall.certificate
    AND transition.log_index = recall.cause_index
    AND transition.position = recall.cause_position
JOIN entry ON entry.log_index = recall.cause_index
WHERE recall.number >= %(begin)s
ORDER BY recall.number
LIMIT %(limit)s
