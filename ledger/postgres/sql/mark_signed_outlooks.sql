-- Says that what a key signed in a range of entries must be looked at anew at once (primary keys of lines and outlook).
UPDATE outlook
SET due_at = %(at_once)s
WHERE log_index >= %(begin)s AND log_index < %(end)s AND log_index IN (
    SELECT log_index
    FROM lines
    JOIN signer ON signer.number = lines.signer
    WHERE log_index >= %(begin)s AND log_index < %(end)s AND key_id = decode(%(key_id)s, 'hex')
)
