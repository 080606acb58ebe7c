"""Dead letters: what their codes mean, whose they seem to be, what would become of them now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .admission import DEAD_LETTER, EQUIVOCATION, LOGGED, REPEAT, Accounted
from .bundle import MAGIC, MAX_BUNDLE_NOTE, Header, parse_header
from .errors import CODES, LedgerError
from .note import parse_note

HEAD_BYTES = 8 + MAX_BUNDLE_NOTE  # of a record: its note lies in them
READY, REPEATED, SAME, EARLY, MEND, NEVER = "ready", "repeat", "same", "early", "mend", "never"
_OF_THE_BUNDLE = frozenset({"wrong-previous", "signing-time"})


@dataclass(frozen=True, slots=True)
class Meaning:
    """A dead letter's code in words; `mend`: whether a change of the registry can make the same
    bytes an entry.
    """

    means: str
    todo: str
    mend: bool = False


MEANINGS = {
    "malformed-record": Meaning(
        "The record is no bundle: not of the ledger's form, or empty.",
        "Find the program that wrote it to the intake topic (`show` gives its place; -o writes the "
        "bytes to a file) and stop it. These bytes can never become an entry.",
    ),
    "too-large": Meaning(
        "The record is larger than a bundle may be.",
        "Whoever sent it has to make smaller bundles: publish the events anew. These bytes can "
        "never become an entry.",
    ),
    "lines-do-not-match-note": Meaning(
        "The lines do not hash to the root in the signed note: damaged on the way, or another's "
        "lines behind a copied note.",
        "Nothing, when it happens once: the number stays open for the true bundle, which its "
        "publisher sends again. When it goes on, look for the damage between publisher and Kafka.",
    ),
    "foreign-ledger": Meaning(
        "The bundle was signed for another ledger.",
        "Have the sender point that publisher at the Kafka of its own ledger, or make it a folder "
        "for this one: the signature names the ledger, so these bytes can never become an entry.",
    ),
    "unknown-department": Meaning(
        "The registry knew no department of this name.",
        "If it should publish here: `certledger department add`, then have its publisher sign the "
        "events anew. A first bundle names the entry that opened its lane, which these bytes, "
        "signed before, cannot.",
    ),
    "unknown-lane": Meaning(
        "The department has no lane of this number.",
        "Set the publisher to the lanes that `certledger department list` shows, and have it sign "
        "the events anew: they name another lane's notes.",
    ),
    "unknown-key": Meaning(
        "No key that the registry knew for this department made the signature.",
        "Ask the department whether the key is its own. If so: `certledger key add`, then "
        "`certledger dead-letter replay --code unknown-key`. If not, somebody publishes in its "
        "name: leave the bytes where they are and tell the department.",
        mend=True,
    ),
    "bad-signature": Meaning(
        "The signature names a key of the department and is not that key's over this note.",
        "Damaged, or forged: nobody but the key's holder can tell. Tell the department. These "
        "bytes can never become an entry.",
    ),
    "key-revoked": Meaning(
        "The key that signed had been revoked.",
        "If the department signed it itself, have its publisher sign the events anew with a valid "
        "key. If not, a lost key is in use: that is what it was revoked for. A revoked key does "
        "not become valid again.",
    ),
}


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What admission would make of a record now; of a bundle that would be logged the outcomes of
    its events. `fits`: it names what its lane's last bundle was.
    """

    accounted: Accounted
    codes: tuple[str, ...]
    fits: bool


@dataclass(frozen=True, slots=True)
class Prospect:
    """Whether a dead letter can be sent again with profit (`state`), and why, in a sentence."""

    state: str
    words: str
    index: int | None = None  # of the entry that it is a repeat of


def seen_header(head: bytes) -> Header | None:
    """What a record's note says, whoever wrote it; None when there is no note to be read.

    `head`: the record's first HEAD_BYTES. Nothing of it is proven.
    """
    end = 8 + int.from_bytes(head[4:8], "big")
    if head[:4] != MAGIC or not 8 < end <= len(head):
        return None
    try:
        return parse_header(parse_note(head[8:end]).text)
    except LedgerError:
        return None


def judge(rehearsed: Rehearsed, next_index: int) -> Prospect:
    """What can be done with a dead letter, by what admission would make of it now.

    `next_index`: of the log before the rehearsal.
    """
    done, refused = rehearsed.accounted, sorted(set(rehearsed.codes) - {"admitted"})
    if done.outcome == LOGGED:
        if not rehearsed.fits or (rehearsed.codes and _OF_THE_BUNDLE.issuperset(rehearsed.codes)):
            reason = "wrong-previous" if not rehearsed.fits else rehearsed.codes[0]
            return Prospect(
                NEVER,
                "it would use up its lane's number with all its events refused "
                f"({reason}): have its publisher sign them anew",
            )
        return Prospect(READY, _logged_words(rehearsed.codes, refused))
    if done.outcome == REPEAT:
        index = done.index if done.index is not None else next_index
        if index >= next_index:
            return Prospect(SAME, "the same bundle as another dead letter here")
        return Prospect(REPEATED, f"it was logged meanwhile, as entry {index}", index)
    if done.outcome == DEAD_LETTER:
        code = done.code or ""
        state = MEND if MEANINGS[code].mend else NEVER
        return Prospect(state, f"still {code}: {CODES[code].sentence}")
    if done.outcome == EQUIVOCATION:
        return Prospect(NEVER, "another bundle has its number on the lane")
    if done.outcome == "out-of-sequence":
        return Prospect(EARLY, f"a bundle before it is missing: {done.message}")
    return Prospect(NEVER, f"it is too late: {done.message}")


def _logged_words(codes: Sequence[str], refused: Sequence[str]) -> str:
    admitted = codes.count("admitted")
    words = f"it would be logged, {admitted} of {len(codes)} events admitted"
    return words + (f" (refused: {', '.join(refused)})" if refused else "")
