-- Opens a status list; one that was opened before keeps its address.
INSERT INTO status_list (list, uri)
VALUES (%(list)s, %(uri)s)
ON CONFLICT (list) DO NOTHING
