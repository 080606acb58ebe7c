-- Drops leaves that no reader asks for: older than the newest published state and than the last 64.
DELETE FROM registry_snapshot
WHERE log_index < (
        SELECT status.log_index
        FROM status
        JOIN checkpoint ON checkpoint.size = status.log_index + 1
        WHERE status.maps AND checkpoint.published_at IS NOT NULL
        ORDER BY status.log_index DESC
        LIMIT 1
    )
    AND log_index < (SELECT log_index FROM registry_snapshot ORDER BY log_index DESC OFFSET 63 LIMIT 1)
