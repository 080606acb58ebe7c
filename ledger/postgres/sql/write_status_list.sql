-- Replaces the forms of a status list (primary key).
UPDATE status_list
SET is_changed = false,
    vkey = %(vkey)s,
    tree_size = %(tree_size)s,
    issued_at = %(issued_at)s,
    jwt = %(jwt)s,
    cwt = %(cwt)s,
    revocation = %(revocation)s,
    suspension = %(suspension)s,
    refresh = %(refresh)s
WHERE list = %(list)s
