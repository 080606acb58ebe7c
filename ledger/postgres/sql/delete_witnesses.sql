-- Forgets witnesses that are asked no more.
DELETE FROM witness
WHERE name <> ALL(%(names)s::text[])
