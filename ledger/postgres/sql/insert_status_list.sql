-- Opens a status list.
INSERT INTO status_list (list, uri)
VALUES (%(list)s, %(uri)s)
