-- Reads one lane (primary key).
SELECT epoch, producer, next_sequence, previous, signing_time, signed_at, log_index
FROM lane
WHERE department = %(department)s AND lane = %(lane)s
