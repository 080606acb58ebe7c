-- Locks the offset rows of some partitions, in partition order.
SELECT partition, next_offset, last_record
FROM intake
WHERE topic_id = %(topic_id)s AND partition = ANY(%(partitions)s)
ORDER BY partition
FOR UPDATE
