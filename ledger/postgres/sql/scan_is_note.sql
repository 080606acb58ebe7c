-- Whether a note was recorded in a lane's epoch below a log index (range of the primary key).
SELECT EXISTS (
    SELECT FROM lane_note
    WHERE department = %(department)s AND lane = %(lane)s AND epoch = %(epoch)s
        AND note_hash = %(note_hash)s AND log_index < %(before)s
)
