-- Streams the notes that used up lane numbers in log order (sorts the whole table).
SELECT log_index, department, lane, epoch, sequence, producer, note_hash
FROM lane_note
ORDER BY log_index, department, lane, epoch, sequence
