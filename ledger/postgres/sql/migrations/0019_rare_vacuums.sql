-- Rows that change make room for themselves (HOT), so these two are vacuumed and analysed when about as many rows
-- changed as there are: at a fifth and a tenth, in a large ledger, it cost a fifth of PostgreSQL's processor and WAL.
-- Enough to know: migration 18.
ALTER TABLE certificate SET (
    autovacuum_vacuum_scale_factor = 1,
    autovacuum_vacuum_insert_scale_factor = 1,
    autovacuum_analyze_scale_factor = 1
);
ALTER TABLE holder SET (
    autovacuum_vacuum_scale_factor = 1,
    autovacuum_vacuum_insert_scale_factor = 1,
    autovacuum_analyze_scale_factor = 1
);
