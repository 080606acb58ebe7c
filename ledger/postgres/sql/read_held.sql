-- Reads the histories of what is bound to holders below a size, of some types, in ledger order; all
-- holders' keys joined; locks nothing (primary keys).
SELECT certificate.type_code, certificate.issuer, certificate.number, transition.data
FROM (
    SELECT certificate AS map_key
    FROM holder_act
    WHERE
        map_key = ANY (ARRAY(
            SELECT substring(%(keys)s::bytea FROM at FOR 32)
            FROM generate_series(1, 32 * %(count)s, 32) AS at
        ))
        AND log_index < %(size)s
    GROUP BY certificate
    HAVING sum(CASE WHEN bound THEN 1 ELSE -1 END) > 0
) AS held
JOIN certificate ON certificate.map_key = held.map_key
JOIN transition ON transition.map_key = held.map_key AND transition.log_index < %(size)s
WHERE certificate.type_code = ANY (%(types)s)
ORDER BY held.map_key, transition.ordinal
