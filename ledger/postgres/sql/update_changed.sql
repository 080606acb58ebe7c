-- Moves the certificates that a piece changes again to their new states, histories longer by what is added (primary key, HOT).
UPDATE certificate
SET state = changed.state, history = certificate.history || changed.added
FROM changed
WHERE certificate.map_key = changed.map_key AND changed.at IS NULL AND changed.piece = %(piece)s
