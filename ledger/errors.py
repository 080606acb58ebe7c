"""Every way in which the ledger says no: one exception class per reaction, one code per reason.

`CODES` is the single table behind HTTP status, exit code, dead-letter header and log level.
"""

from __future__ import annotations

from dataclasses import dataclass


class LedgerError(Exception):
    """A stable `code` and a sentence that says what was found and what was needed."""

    def __init__(self, code: str, message: str = "") -> None:
        if code not in CODES:
            raise KeyError(f"error code without a row in CODES: {code}")
        self.code = code
        self.message = message or CODES[code].sentence
        super().__init__(f"{code}: {self.message}")


class Malformed(LedgerError):
    """The bytes are not of the form: never retry them as they are."""


class Refused(LedgerError):
    """Well formed, and against the rules."""


class ProofError(LedgerError):
    """A proof or signature does not prove what it is offered for."""


class Conflict(LedgerError):
    """Somebody else was first: read again, then decide again."""


class Unavailable(LedgerError):
    """Something needed cannot be reached now: try again later."""


@dataclass(frozen=True, slots=True)
class Code:
    """What a code means to each edge. `exit` is the command line's, `http` the API's status."""

    sentence: str
    error: type[LedgerError]
    http: int
    exit: int
    level: str


def _row(
    sentence: str, error: type[LedgerError], http: int, exit_: int = 2, level: str = "WARNING"
) -> Code:
    return Code(sentence, error, http, exit_, level)


CODES: dict[str, Code] = {
    # bytes that are not of the form
    "not-canonical": _row("The bytes are not the canonical form of what they say.", Malformed, 400),
    "not-json": _row("The bytes are not JSON of the ledger's profile.", Malformed, 400),
    "too-large": _row("The input is larger than its limit.", Malformed, 413),
    "malformed-time": _row("Not an RFC 3339 moment or a day with offset.", Malformed, 400),
    "malformed-number": _row("Not a certificate number or identifier.", Malformed, 400),
    "malformed-key": _row("Not a key of the expected form.", Malformed, 400),
    "malformed-note": _row("Not a signed note of the expected form.", Malformed, 400),
    "malformed-record": _row("Not a bundle record.", Malformed, 400),
    "malformed-event": _row("Not an event line of the expected form.", Malformed, 400),
    "malformed-reliance": _row("Not a reliance line of the expected form.", Malformed, 400),
    "malformed-entry": _row("Not a log entry of the expected form.", Malformed, 400),
    "malformed-deltas": _row("Not delta lists of the expected form.", Malformed, 400),
    "malformed-proof": _row("Not a proof of the expected form.", Malformed, 400),
    "malformed-evidence": _row("Not an evidence file.", Malformed, 400, 2),
    "malformed-misbehaviour": _row("Not a misbehaviour file.", Malformed, 400, 2),
    "malformed-state": _row("Not an auditor's state file.", Malformed, 400, 2),
    "malformed-trust": _row("Not a trust file.", Malformed, 400, 2),
    "malformed-policy": _row("Not a witness policy.", Malformed, 400, 2),
    "malformed-receipt": _row("Not a receipt.", Malformed, 400, 2),
    "malformed-mapping": _row("The mapping file cannot be used.", Malformed, 400, 2),
    "unmapped-row": _row("The mapping gives no event for this row.", Malformed, 400, 2),
    "malformed-catalogue": _row("Not a catalogue of public services.", Malformed, 400, 2),
    "malformed-status-list": _row("Not a status list of ours.", Malformed, 400, 2),
    # a record that never becomes an entry: dead letters
    "lines-do-not-match-note": _row(
        "The record's lines do not hash to the root in its note: damaged on the way.",
        Malformed,
        400,
    ),
    "foreign-ledger": _row("The bundle was signed for another ledger.", Refused, 403),
    "unknown-department": _row("The registry knows no such department.", Refused, 403),
    "unknown-lane": _row("The department has no such lane.", Refused, 403),
    "unknown-key": _row("No key of this department made the signature.", Refused, 403),
    "key-revoked": _row("The key was revoked before this index.", Refused, 403),
    "bad-signature": _row("The signature is not the key's over this text.", Refused, 403),
    # a record that is accounted for without becoming an entry
    "out-of-sequence": _row("The bundle is not the next one on its lane.", Conflict, 409),
    "fenced": _row("Another producer has taken over this lane.", Conflict, 409),
    "equivocation": _row("Two different bundles carry the same lane number.", Refused, 409),
    # a logged bundle all of whose events are refused
    "signing-time": _row(
        "The bundle's signing time goes back on its lane or is over 60 s ahead.", Refused, 422
    ),
    "wrong-previous": _row("The note does not name the lane's last note.", Refused, 422),
    # an event in a logged bundle that is refused
    "repeat": _row("The same event was admitted before.", Refused, 409, level="INFO"),
    "event-id-conflict": _row("Another event of this certificate has this id.", Refused, 409),
    "line-too-large": _row("The event line is over 64 KiB.", Refused, 413),
    "unknown-type": _row("The registry knows no such certificate type.", Refused, 422),
    "act-not-authorised": _row(
        "The registry does not let this department do this to this type.", Refused, 403
    ),
    "not-responsible": _row("Another department is responsible for it.", Refused, 403),
    "wrong-lane": _row("This certificate's events belong on another lane.", Refused, 422),
    "not-issued": _row("No such certificate was issued before.", Refused, 422),
    "already-issued": _row("The certificate was issued before.", Refused, 422),
    "invalid-transition": _row("The certificate's state does not allow this event.", Refused, 422),
    "dates-reversed": _row("The last day of validity lies before the first.", Refused, 422),
    "identifier-mismatch": _row(
        "The certificate identifier says other than the event or the registry.", Refused, 422
    ),
    "unknown-pseudonym-version": _row(
        "The registry names no such version of the pseudonym secret.", Refused, 422
    ),
    "key-taken": _row(
        "Another certificate's or holder's map key begins with the same 16 bytes.", Refused, 422
    ),
    "transfer-mismatch": _row("The transfer was not directed to this department.", Refused, 422),
    "unknown-event": _row("The corrected event is not in this history.", Refused, 422),
    "correction-breaks-history": _row(
        "What remains after the correction is no possible life cycle.", Refused, 422
    ),
    "nothing-to-confirm": _row(
        "No doubted key signed the event, or it is confirmed or corrected already.", Refused, 409
    ),
    "history-too-long": _row(
        "The certificate's history is too long for this, or a bundle's corrections are together.",
        Refused,
        422,
    ),
    # a reliance in a logged bundle that is refused
    "unregistered-service": _row("The registry knows no such service.", Refused, 422),
    "service-not-authorised": _row(
        "The registry does not name this office as one of the service.", Refused, 403
    ),
    "unknown-case": _row("The office relies on nothing in this case.", Refused, 422),
    "reliance-ended": _row("The office ended its reliance in this case before.", Refused, 409),
    "unknown-checkpoint": _row("No checkpoint of the ledger has this many leaves.", Refused, 422),
    "reliance-out-of-order": _row(
        "The case relies on this certificate at a later checkpoint already.", Refused, 409
    ),
    "not-valid-then": _row(
        "The certificate was not valid in this version at that checkpoint.", Refused, 422
    ),
    # the registry
    "registry-conflict": _row("The record changed since: read it and decide again.", Conflict, 409),
    "registry-signature": _row("A needed signature is missing.", Refused, 403),
    "registry-refused": _row("The registry's rules do not allow this change.", Refused, 422),
    "recovery-not-due": _row(
        "The declared delay of the key's recovery is not over yet.", Refused, 409
    ),
    "key-in-use": _row("This public key is registered already.", Refused, 409),
    "no-such-loss": _row("What was declared lost is not just what is missing.", Refused, 409),
    # catalogues
    "unknown-catalogue": _row("The registry knows no such catalogue.", Refused, 404, 2, "INFO"),
    "unknown-service": _row("The catalogue has no such public service.", Refused, 404, 2, "INFO"),
    "catalogue-missing": _row("The catalogue's file is not kept here.", Unavailable, 503, 4),
    # proofs and evidence
    "proof-failed": _row("The proof does not lead to the root.", ProofError, 422, 4),
    "signature-unsupported": _row(
        "The installed cryptography package has no ML-DSA-44: a newer one (48 or later) can check "
        "this signature.",
        Unavailable,
        503,
        4,
    ),
    "checkpoint-refused": _row("The checkpoint is not signed as required.", ProofError, 422, 4),
    "evidence-refused": _row("This file proves nothing.", ProofError, 422, 4),
    "key-compromised": _row(
        "An event was signed with a key that was declared compromised, and is not confirmed yet.",
        ProofError,
        422,
        4,
    ),
    "evidence-incomplete": _row("The evidence lacks what this question needs.", ProofError, 422, 4),
    "status-list-refused": _row("The status list is not signed as it must be.", ProofError, 422, 4),
    # witnesses: what ours say no to, and what we do not take from others
    "unknown-log": _row("This witness does not know the log.", Refused, 404),
    "witness-size": _row("The old size is not what the witness cosigned last.", Conflict, 409),
    "witness-refused": _row(
        "The witness did not answer with its cosignature of this checkpoint.", ProofError, 502, 4
    ),
    "quorum-missing": _row(
        "The quorum of witnesses has not cosigned: nothing new is published.",
        Unavailable,
        503,
        4,
        "ERROR",
    ),
    # storage, sequencing
    "misbehaviour": _row(
        "The ledger signed two statements that contradict each other.",
        ProofError,
        500,
        5,
        "CRITICAL",
    ),
    "stored-bytes-damaged": _row(
        "What was read back is not what was hashed.", ProofError, 500, 4, "CRITICAL"
    ),
    "head-moved": _row("Another sequencer advanced the tree head.", Conflict, 503, 4),
    "relay-moved": _row("Another process does this one's work.", Conflict, 503, 4),
    "going-back": _row(
        "The log topic or a witness knows more than this database, or another history: signing is "
        "refused.",
        Refused,
        503,
        4,
        "CRITICAL",
    ),
    "key-missing": _row(
        "The key that must sign from this size on is not here.", Unavailable, 503, 4, "CRITICAL"
    ),
    "offset-jump": _row("The next record is not the wanted offset.", Conflict, 503, 4, "CRITICAL"),
    "topic-changed": _row("The topic was deleted and created again.", Conflict, 503, 4, "CRITICAL"),
    "clock-behind": _row(
        "The clock stands behind the ledger's time.", Unavailable, 503, 4, "CRITICAL"
    ),
    "not-initialised": _row("The database holds no ledger yet.", Unavailable, 503, 4),
    "unreachable": _row("A server needed for this cannot be reached.", Unavailable, 503, 4),
    "spool-in-use": _row("Another producer holds this spool.", Conflict, 409),
    "spool-failed": _row("The spool cannot be written.", Unavailable, 503, 4, "ERROR"),
    "not-found": _row("The ledger holds no such certificate.", Refused, 404, 3, "INFO"),
    "ambiguous": _row("Several certificates match.", Refused, 409, 4, "INFO"),
    "usage": _row("The question cannot be understood.", Malformed, 400, 2),
}
