"""`certledger assess`: what a holder need not bring to a public service, and what is needed."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Protocol

from consumers.asking import moment
from consumers.assessing import Assessed, Catalogues, assess_proven, check_pseudonyms
from consumers.verifier import SUFFIX, load_trust, now, print_safely
from consumers.words import plain
from ledger.errors import Malformed
from ledger.evidence import format_evidence
from ledger.holder_evidence import format_holder_evidence
from ledger.postgres.connection import connect
from ledger.postgres.reader import Reader
from ledger.waiver import COMMITMENT, NEEDED, SATISFIED, Judged

_ASSESS = """\
What a holder need not bring to a public service, because the ledger has it: each requirement is
satisfied by a certificate, can be by a written commitment, or is still needed, and from which
office; then the smallest set that is still to be brought. Where a certificate is there and does not
hold, why, and what would mend it.

Everything rests on evidence that is made and checked here: that the list of the holder's
certificates is complete, and how each stands. --evidence keeps it, for `certledger rely`.
"""
_EPILOG = """\
exit: 0 nothing is to be brought, 1 something is, 2 usage, 4 cannot decide or cannot reach
examples:
  certledger assess open-restaurant --holder 1:27f9…2571
  certledger pseudonym --scheme 111 | certledger assess open-restaurant --holder - --evidence papers
"""
_WORDS = {
    SATISFIED: "NOT TO BRING 免提交",
    COMMITMENT: "COMMITMENT 可承诺",
    NEEDED: "TO BRING 需提交",
}
_MENDS = {
    "renew": "renew it 续期",
    "reinstate": "have it reinstated 申请发还",
    "wait": "wait until it begins 待其生效",
    "take-over": "ask where it went 向转入机关查询",
    "apply-anew": "apply anew 重新申请",
    "ask-issuer": "ask the issuer 向颁发机关查询",
    "bring-from-issuer": "bring the one of 须由该机关出具:",
}


class Env(Protocol):
    """What this command needs to know about where it runs."""

    @property
    def postgres_url(self) -> str: ...
    @property
    def trust(self) -> Path: ...


def add_commands(commands: Any) -> None:
    """Add `assess` to a command line."""
    parser = commands.add_parser(
        "assess",
        help="what a holder need not bring to a public service",
        description=_ASSESS,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("service", metavar="SERVICE", help="its code in the catalogue")
    parser.add_argument(
        "--holder",
        metavar="PSEUDONYM",
        nargs="+",
        required=True,
        help="VERSION:HEX; - reads them from stdin",
    )
    parser.add_argument(
        "--catalogue", metavar="DEPT/CODE", help="left out: the only one that has the service"
    )
    parser.add_argument("--at", metavar="WHEN", help="how each certificate stood then")
    parser.add_argument("--evidence", metavar="DIR", type=Path, help="keep the evidence there")
    parser.add_argument(
        "--trust", type=Path, metavar="FILE", help="default: the stack's trust.json"
    )
    parser.add_argument("--json", action="store_true", help="as JSON on stdout")
    parser.set_defaults(run=run)


def run(args: Any, env: Env) -> int:
    """certledger assess"""
    pseudonyms = list(args.holder)
    if pseudonyms == ["-"]:
        pseudonyms = sys.stdin.read(8192).split()
    if not pseudonyms:
        raise Malformed("usage", "no pseudonym is given")
    check_pseudonyms(pseudonyms)
    at = moment(args.at, "UTC")
    trust = load_trust(args.trust or env.trust)
    connection = connect(env.postgres_url, "assess")
    try:
        with Reader(connection).open() as view:
            catalogue = Catalogues().find(view, args.service, args.catalogue)
            done = assess_proven(view, catalogue, args.service, pseudonyms, trust, now(), at)
    finally:
        connection.close()
    if args.evidence is not None:
        _keep(done, args.evidence)
    if args.json:
        print(json.dumps(done.members(), indent=2))
    else:
        print_safely(_describe(done))
    return 1 if done.assessment.bring or not done.assessment.service.stated else 0


def _keep(done: Assessed, folder: Path) -> None:
    """Write the evidence of the list, and of each certificate that counts."""
    if done.proven is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "list.holder-evidence.json").write_bytes(
        format_holder_evidence(done.proven.holder) + b"\n"
    )
    shown = done.proven.certificates.items()
    for number, (certificate, (evidence, _)) in enumerate(shown, 1):
        name = f"{number:02d}-{certificate.type_code}{SUFFIX}"
        (folder / name).write_bytes(format_evidence(evidence) + b"\n")


def _describe(done: Assessed) -> str:
    made = done.assessment
    lines = [f"{_both(made.service.names)}  ({made.service.code})"]
    if not made.service.stated:
        lines.append("  The catalogue does not say what is demanded. 目录未载明申请材料。")
    for one in made.judged:
        lines.append(f"  {_WORDS[one.result]:<22} {_both(one.requirement.names)}")
        lines += [f"      {line}" for line in _details(one)]
    kinds = made.catalogue.evidence_types
    if made.bring:
        lines.append("  the smallest set to bring 最少需提交:")
        for code in made.bring:
            issuers = kinds[code].issuers or ()
            offices = " / ".join(_both(made.catalogue.organisations[i].names) for i in issuers)
            lines.append(
                f"      {_both(kinds[code].names)}" + (f"  ← {offices}" if offices else "")
            )
    elif made.service.stated:
        lines.append("  Nothing is to be brought. 无需提交任何材料。")
    if not made.is_smallest:
        lines.append("  (a smaller set may exist: the search was cut off 未必最少)")
    lines.append(f"  as of {done.tree_size} entries; the list of certificates is proven complete")
    return "\n".join(lines)


def _details(one: Judged) -> list[str]:
    lines = [
        f"{plain(met.held.certificate.number)}, version {met.held.version}, "
        f"by {met.held.certificate.issuer}"
        for met in one.met
    ]
    for bad in one.unfit:
        number, mend = plain(bad.held.certificate.number), _MENDS[bad.mend]
        lines.append(f"{number} does not hold ({bad.reason}): {mend} → {bad.office}")
    return lines


def _both(names: Any) -> str:
    return plain(" / ".join(names[language] for language in sorted(names, reverse=True)))
