-- Reads how the witnesses stand.
SELECT name, cosigned_size, cosigned_at, problem
FROM witness
ORDER BY name
