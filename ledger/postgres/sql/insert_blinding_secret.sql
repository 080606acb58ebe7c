-- Keeps the secret that blinds holders' delta roots, at genesis (primary key).
INSERT INTO blinding_secret (secret) VALUES (%(secret)s)
