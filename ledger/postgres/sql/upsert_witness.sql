-- Says how a witness stands (primary key).
INSERT INTO witness (name, cosigned_size, cosigned_at, problem)
VALUES (%(name)s, %(size)s, %(seconds)s, %(problem)s)
ON CONFLICT (name) DO UPDATE
SET cosigned_size = excluded.cosigned_size,
    cosigned_at = excluded.cosigned_at,
    problem = excluded.problem
