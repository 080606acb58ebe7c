-- Reads the secret that blinds holders' delta roots; locks nothing.
SELECT secret
FROM blinding_secret
