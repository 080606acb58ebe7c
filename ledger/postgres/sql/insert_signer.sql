-- Gives a signer its number, within the turn.
INSERT INTO signer (number, department, key_id)
VALUES (%(number)s, %(first)s, decode(%(second)s, 'hex'))
