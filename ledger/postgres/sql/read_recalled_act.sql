-- Reads the one act that a change of a certificate concerns, as it came after it (primary keys).
SELECT
    hold.reliance_key, reliance.office, reliance.case_hash, hold.event_id, hold.number, hold.lasts
FROM reliance_hold AS hold
JOIN reliance ON reliance.reliance_key = hold.reliance_key
WHERE
    hold.certificate = %(certificate)s
    AND hold.reliance_key = %(reliance_key)s
    AND hold.log_index = %(log_index)s
    AND hold.position = %(position)s
