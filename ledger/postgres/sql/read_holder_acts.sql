-- Reads a holder's acts below a size in log order; locks nothing (primary key of holder_act).
SELECT log_index, position, certificate, bound
FROM holder_act
WHERE map_key = %(key)s AND log_index < %(size)s
ORDER BY ordinal
