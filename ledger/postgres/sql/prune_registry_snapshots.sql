-- Drops leaves that no reader asks for: older than the published checkpoint and than the last 64.
DELETE FROM registry_snapshot
WHERE log_index < (SELECT max(size) - 1 FROM checkpoint WHERE published_at IS NOT NULL)
    AND log_index < (SELECT log_index FROM registry_snapshot ORDER BY log_index DESC OFFSET 63 LIMIT 1)
