-- Moves the tree head by compare-and-swap; one row changes or somebody else was first.
UPDATE head
SET size = %(size)s, root = %(root)s
WHERE size = %(was_size)s AND root = %(was_root)s
