-- Reads how far each part of the ledger has come, as one row; counts nothing (primary keys).
SELECT
    allocation.origin,
    allocation.next_index,
    allocation.next_outbox,
    (SELECT coalesce(max(number) + 1, 0) FROM expiry_notice) AS next_notice,
    (SELECT coalesce(max(number) + 1, 0) FROM recall) AS next_recall,
    head.size AS head_size,
    signed.size AS signed_size,
    (SELECT max(ledger_time) FROM status WHERE log_index = signed.size - 1) AS signed_time,
    published.size AS published_size,
    published.published_at,
    (SELECT max(log_index) FROM status WHERE maps) AS maps_index,
    pg_database_size(current_database()) AS database_bytes
FROM allocation
CROSS JOIN head
LEFT JOIN LATERAL (SELECT size FROM checkpoint ORDER BY size DESC LIMIT 1) AS signed ON true
LEFT JOIN LATERAL (
    SELECT size, published_at
    FROM checkpoint
    WHERE published_at IS NOT NULL
    ORDER BY size DESC
    LIMIT 1
) AS published ON true
