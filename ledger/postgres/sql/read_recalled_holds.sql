-- Reads whom a change of a certificate concerns, ascending (primary keys): those that held it at
-- the place of the change.
SELECT
    hold.reliance_key, reliance.office, reliance.case_hash, hold.event_id, hold.number, hold.lasts
FROM reliance_hold AS hold
JOIN reliance ON reliance.reliance_key = hold.reliance_key
WHERE
    hold.certificate = %(certificate)s
    AND hold.reliance_key > %(after)s
    AND (hold.log_index, hold.position) < (%(cause_index)s, %(cause_position)s)
    AND (
        hold.end_index IS NULL
        OR (hold.end_index, hold.end_position) > (%(cause_index)s, %(cause_position)s)
    )
ORDER BY hold.reliance_key
LIMIT %(limit)s
