-- Remembers a second note's entry.
INSERT INTO equivocation (department, lane, note_hash, log_index)
VALUES (%(department)s, %(lane)s, %(note_hash)s, %(log_index)s)
