-- Whether a second note was logged before (primary key).
SELECT EXISTS (
    SELECT FROM equivocation
    WHERE department = %(department)s AND lane = %(lane)s AND note_hash = %(note_hash)s
)
