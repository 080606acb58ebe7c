-- Reads the file of one version of a catalogue (primary key).
SELECT data
FROM catalogue
WHERE name = %(name)s AND version = %(version)s
