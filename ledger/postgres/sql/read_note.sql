-- Reads which note used up a lane number (primary key).
SELECT producer, note_hash, log_index
FROM lane_note
WHERE department = %(department)s AND lane = %(lane)s
    AND epoch = %(epoch)s AND sequence = %(sequence)s
