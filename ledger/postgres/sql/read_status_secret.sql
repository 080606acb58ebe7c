-- Reads the secret that places in status lists are drawn by.
SELECT secret
FROM status_secret
