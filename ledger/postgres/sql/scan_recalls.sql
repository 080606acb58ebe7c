-- Streams recalls by what made them (sorts the whole table).
SELECT log_index, position, number, certificate, cause_index, cause_position, event, revocation,
    reason, reliance_key
FROM recall
ORDER BY log_index, number
