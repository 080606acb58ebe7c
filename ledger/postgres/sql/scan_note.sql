-- Reads which note used up a lane number below a log index (primary key).
SELECT producer, note_hash, log_index
FROM lane_note
WHERE department = %(department)s AND lane = %(lane)s AND epoch = %(epoch)s
    AND sequence = %(sequence)s AND log_index < %(before)s
