-- Reads and locks the next rows in the order of their commits (index outbox_untaken).
SELECT o.id, o.change_id, left(o.certificate_type_code, 4096),
    left(o.issuing_authority_code, 4096), left(o.certificate_number, 4096),
    left(row_to_json(said)::text, %(length)s)
FROM certledger.outbox AS o, LATERAL (
    SELECT o.event, o.certificate_type_code, o.certificate_number, o.issuing_authority_code,
        o.certificate_identifier, o.valid_from, o.valid_until, o.holder_scheme, o.holder_number,
        o.holder_pseudonym, o.revocation_kind, o.reason_code, o.transfer_to, o.corrects,
        o.correction, o.claims, o.private, o.time, o.recordedtime, o.change_id
) AS said
WHERE o.event_id IS NULL AND o.outcome IS NULL AND o.waits_for IS NULL
ORDER BY o.number, o.id
LIMIT %(limit)s
FOR NO KEY UPDATE OF o
