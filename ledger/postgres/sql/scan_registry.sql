-- Reads all registry records.
SELECT name, data, log_index
FROM registry_record
ORDER BY name
