-- Opens a lane.
INSERT INTO lane (
    department, lane, epoch, next_sequence, previous, signing_time, signed_at, log_index
)
VALUES (
    %(department)s, %(lane)s, %(epoch)s, %(next_sequence)s, %(previous)s, %(signing_time)s,
    %(signed_at)s, %(log_index)s
)
