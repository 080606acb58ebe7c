-- Begins fsck's one consistent picture; locks nothing.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY
