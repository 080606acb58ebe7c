-- Reads the newest published checkpoint whose last entry carries the maps; locks nothing (status_maps, primary key).
SELECT checkpoint.size, checkpoint.note
FROM status
JOIN checkpoint ON checkpoint.size = status.log_index + 1
WHERE status.maps AND checkpoint.published_at IS NOT NULL
ORDER BY status.log_index DESC
LIMIT 1
