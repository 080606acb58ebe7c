-- Reads the numbers of all types and issuers of certificates.
SELECT type_code, issuer, number
FROM certificate_kind
