-- Moves the changed certificates to their new states, histories longer by what is added (primary key, HOT).
UPDATE certificate
SET state = changed.state, history = certificate.history || changed.added
FROM changed
WHERE certificate.map_key = changed.map_key
