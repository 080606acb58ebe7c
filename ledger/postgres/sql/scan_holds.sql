-- Reads everything that ever held a certificate (primary keys).
SELECT
    hold.reliance_key, hold.log_index, hold.position, hold.number, hold.lasts, hold.event_id,
    hold.end_index, hold.end_position, reliance.office, reliance.case_hash
FROM reliance_hold AS hold
JOIN reliance ON reliance.reliance_key = hold.reliance_key
WHERE hold.certificate = %(certificate)s
