-- Reads the numbers of all who signed bundles.
SELECT department, encode(key_id, 'hex'), number
FROM signer
