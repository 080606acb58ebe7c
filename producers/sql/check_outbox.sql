-- Says whether rows are numbered at commit and in which encoding texts are; fails without the table.
SELECT
    EXISTS (
        SELECT FROM pg_trigger
        WHERE tgrelid = 'certledger.outbox'::regclass AND tgname = 'number_at_commit'
            AND tgenabled <> 'D'
    ),
    current_setting('server_encoding')
