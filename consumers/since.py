"""`verify … --since F`: a checkpoint that was seen before is held against the one now shown.

F is a signed checkpoint or an older evidence file. The proof that one log begins with the other
comes with the evidence (`since`), or is read from the log itself (`--log URL`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ledger import merkle
from ledger.checkpoint import Checkpoint
from ledger.errors import LedgerError, Malformed, ProofError
from ledger.evidence import MAX_EVIDENCE, Evidence, parse_evidence
from ledger.misbehaviour import FORK, INCONSISTENT, Misbehaviour
from ledger.trust import Trust
from ledger.verdict import CHECKPOINT, FAILED, Answer, decide

from .log_client import HttpLog, subtree_of


@dataclass(frozen=True, slots=True)
class Seen:
    """A checkpoint that was seen before, signed by the ledger as required; as it is gossiped in
    `certledger.log.v1`, no witness has cosigned it.
    """

    data: bytes
    checkpoint: Checkpoint


def add_arguments(parser: Any) -> None:
    """The arguments of holding an answer against what was seen before."""
    parser.add_argument(
        "--since", type=Path, metavar="F", help="a checkpoint or evidence file that was seen before"
    )
    parser.add_argument(
        "--log", metavar="URL", help="where to read how the log grew since, when the file lacks it"
    )


def load_seen(path: Path, trust: Trust) -> Seen:
    """What the file of `--since` holds; Malformed or ProofError where it is not of this ledger."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_EVIDENCE + 2)
    except OSError as err:
        raise Malformed("usage", f"{path} cannot be read: {err.strerror}") from err
    if data.startswith(b"{"):
        data = parse_evidence(data).checkpoint
    return Seen(data, trust.check_signed(data))


def hold(
    answer: Answer, evidence: Evidence, seen: Seen, log_url: str | None, trust: Trust
) -> tuple[Answer, Misbehaviour | None]:
    """The answer where the evidence's log and the one seen are one history, else a refusal; with
    what proves it where the ledger signed two histories.
    """
    if answer.refused is not None:
        return answer, None
    try:
        guilt = _compare(evidence, seen, log_url, trust)
    except LedgerError as err:
        return _refuse(answer, err.message), None
    if guilt is not None:
        return _refuse(answer, guilt.claim), guilt
    said = f"and of one history with the {seen.checkpoint.size} leaves seen before"
    checks = tuple(
        replace(check, why=f"{check.why}, {said}") if check.name == CHECKPOINT else check
        for check in answer.checks
    )
    return replace(answer, checks=checks), None


def _refuse(answer: Answer, why: str) -> Answer:
    said = f"not shown to continue what was seen before: {why}"
    checks = tuple(
        replace(check, result=FAILED, why=said) if check.name == CHECKPOINT else check
        for check in answer.checks
    )
    verdict, reason, sentence = decide(checks, answer.found)
    return replace(answer, answer=verdict, reason=reason, why=sentence, checks=checks)


def _compare(
    evidence: Evidence, seen: Seen, log_url: str | None, trust: Trust
) -> Misbehaviour | None:
    """None when one log begins with the other; ProofError where that is not shown."""
    now = trust.check_checkpoint(evidence.checkpoint)
    both = (seen.data, evidence.checkpoint)
    if now.size == seen.checkpoint.size:
        if now.root == seen.checkpoint.root:
            return None
        claim = f"two different roots were signed for size {now.size}"
        return Misbehaviour(trust.origin, FORK, claim, both)
    small, large = sorted((now, seen.checkpoint), key=lambda checkpoint: checkpoint.size)
    if small.size == 0:
        return None
    shown = evidence.since
    if shown is not None and shown.size == small.size and large is now:
        merkle.check_consistency(small.size, large.size, shown.path, small.root, large.root)
        return None
    if log_url is None:
        raise ProofError(
            "evidence-incomplete",
            f"no consistency proof from size {small.size} to {large.size}: name the log by --log",
        )
    log = HttpLog(log_url)
    try:
        path = merkle.prove_prefix(small.size, large.size, subtree_of(log, large.size))
    finally:
        log.close()
    first, second = merkle.consistency_roots(small.size, large.size, path)
    if second != large.root:
        raise ProofError("proof-failed", f"the tiles at {log_url} are not those of this log")
    if first == small.root:
        return None
    claim = f"the log of size {large.size} does not begin with the one of size {small.size}"
    return Misbehaviour(trust.origin, INCONSISTENT, claim, both, tuple(path))
