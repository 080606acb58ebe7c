-- Moves a lane behind its last logged bundle.
UPDATE lane
SET epoch = %(epoch)s, producer = %(producer)s, next_sequence = %(next_sequence)s,
    previous = %(previous)s, signing_time = %(signing_time)s, signed_at = %(signed_at)s,
    log_index = %(log_index)s
WHERE department = %(department)s AND lane = %(lane)s
