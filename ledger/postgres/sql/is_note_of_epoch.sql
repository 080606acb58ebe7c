-- Whether a note is recorded in an epoch of a lane (range of the primary key; rare).
SELECT EXISTS (
    SELECT FROM lane_note
    WHERE department = %(department)s AND lane = %(lane)s AND epoch = %(epoch)s
        AND note_hash = %(note_hash)s
)
