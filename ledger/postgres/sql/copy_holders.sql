-- All holders' records, for COPY; locks nothing (sequential).
SELECT map_key, rest, acts, link FROM holder
