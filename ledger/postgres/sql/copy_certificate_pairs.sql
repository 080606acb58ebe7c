-- All pairs of the certificates' map as it is now, for COPY; locks nothing (sequential).
SELECT map_key, sha256(%(tag)s || record) FROM certificate
