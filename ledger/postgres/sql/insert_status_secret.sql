-- Keeps the secret that places in status lists are drawn by, unless there is one (primary key).
INSERT INTO status_secret (secret)
VALUES (%(secret)s)
ON CONFLICT (one) DO NOTHING
