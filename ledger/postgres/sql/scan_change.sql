-- Reads the transition of a certificate at a place, and its entry (primary keys).
SELECT transition.data, entry.data
FROM transition
JOIN entry ON entry.log_index = transition.log_index
WHERE
    transition.map_key = %(certificate)s
    AND transition.log_index = %(index)s
    AND transition.position = %(position)s
