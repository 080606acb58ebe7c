-- Finds published certificates by number, type or issuer given or not (certificate_number).
SELECT type_code, issuer, number
FROM certificate
WHERE number = ANY(%(numbers)s)
    AND (%(type_code)s::text IS NULL OR type_code = %(type_code)s)
    AND (%(issuer)s::text IS NULL OR issuer = %(issuer)s)
    AND EXISTS (
        SELECT FROM transition
        WHERE transition.map_key = certificate.map_key AND ordinal = 0 AND log_index < %(size)s
    )
ORDER BY number, type_code, issuer
LIMIT %(limit)s
