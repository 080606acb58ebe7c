"""The browser verifier's tables, `tables.js`: what the rules hold as data, printed from `ledger/`.

`python tests/vectors/generate_verifier_tables.py --write` writes the module; without `--write` it
says whether anything would change (exit 1). Modules of the verifier name codes and limits by these
names; what none of them names is left out.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a script, too

from ledger import (
    bundle,
    canonical,
    checkpoint_keys,
    entry,
    errors,
    event,
    evidence,
    identity,
    lifecycle,
    note,
    policy,
    records,
    registry,
    sheet,
    statusmap,
    trust,
    unassigned,
    verdict,
)

VERIFIER = Path(__file__).resolve().parents[2] / "consumers" / "http" / "page" / "verifier"
TABLES = VERIFIER / "tables.js"
HEAD = """\
// Made by tests/vectors/generate_verifier_tables.py from the modules of ledger/: not to be edited.
"""


def tables() -> dict[str, Any]:
    """Every table by its name in JavaScript."""
    return {
        "CODES": {code: row.sentence for code, row in errors.CODES.items()},
        "MAX_DEPTH": canonical.MAX_DEPTH,
        "MAX_NUMBER": identity.MAX_NUMBER,
        "MAX_NOTE": note.MAX_NOTE,
        "MAX_SIGNATURES": note.MAX_SIGNATURES,
        "BUNDLE_FORM": bundle.FORM,
        "MAX_EVENTS": bundle.MAX_EVENTS,
        "MAX_LANES": bundle.MAX_LANES,
        "MAX_EPOCH": bundle.MAX_EPOCH,
        "MAX_SEQUENCE": bundle.MAX_SEQUENCE,
        "MAX_LINE": event.MAX_LINE,
        "EVENT_PREFIX": event.TYPE_PREFIX,
        "EVENT_SUFFIX": event.TYPE_SUFFIX,
        "ALWAYS": sorted(event._ALWAYS),
        "FIELDS": {
            kind: {"more": sorted(allowed - event._ALWAYS), "needed": sorted(needed)}
            for kind, (allowed, needed) in event.FIELDS.items()
        },
        "CORRECTIONS": event.CORRECTIONS,
        "REVOCATION_KINDS": event.REVOCATION_KINDS,
        "TABLE": [[before, kind, after] for (before, kind), after in lifecycle.TABLE.items()],
        "STATE_ACTS": lifecycle.STATE_ACTS,
        "VERSION_ACTS": sorted(lifecycle.VERSION_ACTS),
        "ENDS": sorted(lifecycle._ENDS),
        "TRANSITION_MEMBERS": lifecycle._MEMBERS,
        "NEEDED_OF_TRANSITION": lifecycle._NEEDED,
        "MAX_CORRECTABLE": lifecycle.MAX_CORRECTABLE,
        "LINK_TAG": lifecycle.LINK_TAG.decode(),
        "RECORD_TAG": lifecycle.RECORD_TAG.decode(),
        "ENTRY_FORM": entry.FORM,
        "ENTRY_MEMBERS": {kind: sorted(members) for kind, members in entry._MEMBERS.items()},
        "MAX_ENTRY": entry.MAX_ENTRY,
        "RECORD_FORM": registry.RECORD_FORM,
        "NOTE_FORM": registry.NOTE_FORM,
        "SCOPES": registry.SCOPES,
        "MIN_DELAY": registry.MIN_DELAY,
        "MAX_RECORD": records.MAX_RECORD,
        "OPTIONAL": sorted(records.OPTIONAL),
        "BUCKET_TAG": statusmap.TAG.decode(),
        "SMALL_BUCKET": statusmap.SMALL,
        "MAX_K": statusmap.MAX_K,
        "TRUST_FORM": trust.FORM,
        "TRUST_MEMBERS": sorted(trust._MEMBERS),
        "TRUST_OPTIONAL": sorted(trust._OPTIONAL),
        "MAX_TRUST": trust.MAX_TRUST,
        "MAX_KEYS": checkpoint_keys.MAX_KEYS,
        "MAX_POLICY": policy.MAX_POLICY,
        "MAX_POLICY_LINES": policy.MAX_LINES,
        "EVIDENCE_FORM": evidence.FORM,
        "MAX_EVIDENCE": evidence.MAX_EVIDENCE,
        "MAX_PATH": evidence.MAX_PATH,
        "MAX_SHOWN": evidence.MAX_EVENTS,
        "CHECK_NAMES": verdict.NAMES,
        "PROVING": verdict.PROVING,
        "NEEDED": verdict.NEEDED,
        "STATED": verdict.STATED,
        "SHEET_FORM": sheet.FORM,
        "SHEET_PREFIX": sheet.PREFIX,
        "SHEET_REASONS": {answer: sorted(said) for answer, said in sheet._REASONS.items()},
        "MAX_SHEET": sheet.MAX_TEXT,
        "OVER_REASONS": sorted(verdict.OVER_REASONS),
        "OVER_REASONS_OF_A_VERSION": sorted(verdict.OVER_REASONS_OF_A_VERSION),
        "UNASSIGNED": unassigned_edges(),
    }


def unassigned_edges() -> str:
    """Where ranges of unassigned code points begin and end, each as the step from the one before in
    base 36.
    """
    edges: list[int] = []
    for part in unassigned._RANGES.split():
        ends = [int(end, 16) for end in part.split("-")]
        edges += (ends[0], ends[-1] + 1)
    return " ".join(
        _base36(edge - before) for before, edge in zip([0, *edges], edges, strict=False)
    )


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits or "0"


def module() -> str:
    """The text of `tables.js`."""
    source = "".join(p.read_text() for p in sorted(VERIFIER.glob("*.js")) if p != TABLES)
    named = set(re.findall(r'"([a-z-]+)"', source))
    found = tables()
    found["CODES"] = {code: text for code, text in found["CODES"].items() if code in named}
    unused = [name for name in found if not re.search(rf"\b{name}\b", source)]
    if unused:
        raise SystemExit(f"no module of the verifier uses {', '.join(unused)}")
    lines = [
        f"export const {name} = {json.dumps(value, ensure_ascii=False, separators=(', ', ': '))};"
        for name, value in found.items()
    ]
    return HEAD + "\n".join(lines) + "\n"


def main() -> int:
    text = module()
    if "--write" in sys.argv:
        TABLES.write_text(text)
        return 0
    current = TABLES.exists() and TABLES.read_text() == text
    print("current" if current else "tables.js differs: run with --write")
    return 0 if current else 1


if __name__ == "__main__":
    sys.exit(main())
