"""Findings about a catalogue as text, as JSON and as SARIF 2.1.0."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from ledger.lint import ERROR, RULES, WARNING, Finding
from ledger.positions import Positions
from ledger.revision import NEW_SERVICE, REVISION_CODES

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_REVISION = {  # (Chinese, English) of what only a comparison finds
    "added-demand": ("新版本增加了要求。", "A new version demands something more."),
    "stricter-demand": ("新版本的要求更严。", "A new version demands the same more strictly."),
    "commitment-withdrawn": (
        "新版本不再接受书面承诺。",
        "A new version no longer takes a written commitment.",
    ),
    NEW_SERVICE: ("新版本中的新服务。", "A service that the version before did not have."),
}


def format_text(findings: Sequence[Finding], file: str, positions: Positions) -> Iterator[str]:
    """Lines for people: place, level, code, then the sentence in both languages; totals last."""
    for finding in findings:
        where = f"{file}:{positions.line(finding.path)}"
        yield f"{where}: {finding.level}: {finding.code} [{finding.id}]"
        yield f"    {finding.en}"
        yield f"    {finding.zh}"
    counts = Counter(finding.code for finding in findings)
    for code, count in counts.most_common():
        zh, en = _rule(code)
        yield f"{count:>7,}  {code}: {en} {zh}"
    yield f"{len(findings):>7,}  findings"


def format_json(findings: Sequence[Finding], file: str, positions: Positions) -> str:
    """One JSON list of findings."""
    return json.dumps(
        [
            {
                "id": finding.id,
                "code": finding.code,
                "level": finding.level,
                "reason_of_2018": RULES[finding.code].reason or None
                if finding.code in RULES
                else None,
                "service": finding.service,
                "requirement": finding.requirement,
                "evidence_types": list(finding.evidence),
                "zh": finding.zh,
                "en": finding.en,
                "file": file,
                "line": positions.line(finding.path),
            }
            for finding in findings
        ],
        ensure_ascii=False,
        indent=1,
    )


def format_sarif(findings: Sequence[Finding], file: str, positions: Positions) -> str:
    """A SARIF 2.1.0 log of one run, as code review tools take it."""
    codes = [*RULES, *REVISION_CODES]
    rules = [
        {
            "id": code,
            "shortDescription": {"text": f"{_rule(code)[1]} {_rule(code)[0]}"},
            **(
                {"properties": {"reason_of_2018": RULES[code].reason}}
                if code in RULES and RULES[code].reason
                else {}
            ),
        }
        for code in codes
    ]
    results = [
        {
            "ruleId": finding.code,
            "ruleIndex": codes.index(finding.code),
            "level": finding.level,
            "message": {"text": f"{finding.en}\n{finding.zh}"},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": file},
                        "region": {"startLine": positions.line(finding.path)},
                    },
                    "logicalLocations": [{"fullyQualifiedName": _logical(finding)}],
                }
            ],
            "partialFingerprints": {"certledger/v1": finding.id},
        }
        for finding in findings
    ]
    driver = {"name": "certledger catalogue lint", "rules": rules}
    log: dict[str, Any] = {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }
    return json.dumps(log, ensure_ascii=False, indent=1)


def is_failing(finding: Finding, least: str) -> bool:
    """Whether a finding is of a level, or above it, that makes a check fail."""
    ranks = {ERROR: 2, WARNING: 1}
    return ranks.get(finding.level, 0) >= ranks.get(least, 0)


def _rule(code: str) -> tuple[str, str]:
    rule = RULES.get(code)
    return _REVISION[code] if rule is None else (rule.zh, rule.en)


def _logical(finding: Finding) -> str:
    return "/".join(part for part in (finding.service, finding.requirement) if part is not None)
