-- Moves a partition's next offset by compare-and-swap on the one read in this turn.
UPDATE intake
SET next_offset = %(next_offset)s, last_record = %(last_record)s
WHERE topic_id = %(topic_id)s AND partition = %(partition)s AND next_offset = %(was)s
