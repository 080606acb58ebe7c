-- Opens a lane.
INSERT INTO lane (
    department, lane, epoch, next_sequence, previous, signing_time, signed_at, log_index
)
VALUES (%(department)s, %(lane)s, 0, 0, %(previous)s, 0, '', %(log_index)s)
