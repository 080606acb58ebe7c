-- Says whether relays that stand somewhere may have something to send (the last of each table by its primary key, so
-- that no plan looks through a table for what is not there).
SELECT coalesce(greatest(
    (SELECT max(number) FROM recall)
        - coalesce((SELECT position FROM relay WHERE name = %(recalls)s), 0),
    (SELECT max(size) - 1 FROM checkpoint WHERE published_at IS NOT NULL)
        - coalesce((SELECT position FROM relay WHERE name = %(receipts)s), 0),
    (SELECT max(number) FROM outbox)
        - coalesce((SELECT position FROM relay WHERE name = %(outbox)s), 0),
    (SELECT max(number) FROM expiry_notice)
        - coalesce((SELECT position FROM relay WHERE name = %(ends)s), 0)
) >= 0, false)
