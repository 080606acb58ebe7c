-- Reads all lanes.
SELECT department, lane, epoch, producer, next_sequence, previous, signing_time, signed_at, log_index
FROM lane
ORDER BY department, lane
