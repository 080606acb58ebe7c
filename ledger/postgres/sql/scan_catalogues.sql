-- Reads the files of all catalogues in the order of name and version (primary key).
SELECT name, version, data
FROM catalogue
ORDER BY name COLLATE "C", version
