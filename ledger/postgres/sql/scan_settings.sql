-- Plans fsck's cursors for reading all their rows.
SET LOCAL cursor_tuple_fraction = 1
