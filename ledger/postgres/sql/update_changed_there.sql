-- Moves changed certificates as update_changed does, by where their rows are (tid): no search by key.
UPDATE certificate
SET state = changed.state, history = certificate.history || changed.added
FROM changed
WHERE certificate.ctid = changed.at AND certificate.map_key = changed.map_key AND changed.piece = %(piece)s
