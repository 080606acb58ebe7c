-- Streams how reliances stand (primary key).
SELECT reliance_key, office, service, case_hash, acts, is_ended
FROM reliance
ORDER BY reliance_key
