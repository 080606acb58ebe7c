-- Gives a type of an issuer its number, within the turn.
INSERT INTO certificate_kind (number, type_code, issuer)
VALUES (%(number)s, %(first)s, %(second)s)
