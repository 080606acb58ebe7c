-- Reads one form of a status list that was made (primary key).
SELECT CASE %(form)s
    WHEN 'jwt' THEN jwt
    WHEN 'cwt' THEN cwt
    WHEN 'revocation' THEN revocation
    WHEN 'suspension' THEN suspension
    WHEN 'refresh' THEN refresh
END
FROM status_list
WHERE list = %(list)s AND jwt IS NOT NULL
