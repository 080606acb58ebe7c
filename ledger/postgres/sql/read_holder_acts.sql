-- Reads a holder's acts in log order, 64 to a row and the last ones with the link; locks nothing (primary keys).
SELECT ordinal, acts, NULL::bytea
FROM holder_act
WHERE map_key = encode(%(head)s, 'hex')::uuid
UNION ALL
SELECT acts / 64 * 64, recent, link
FROM holder
WHERE map_key = encode(%(head)s, 'hex')::uuid
ORDER BY 1
