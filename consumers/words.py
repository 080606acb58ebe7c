"""Answers in words, English with Chinese beside it, for people at a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from ledger.evidence import CertificateId
from ledger.holder_checking import HolderAnswer
from ledger.question import format_instant
from ledger.verdict import (
    CANNOT_DECIDE,
    FAILED,
    LISTED,
    NOT_FOUND,
    NOT_VALID,
    NOT_YET_VALID,
    NOTHING_BOUND,
    PASSED,
    REFUSED,
    VALID,
    Answer,
)

VERDICTS = {
    VALID: ("VALID", "有效", "32"),
    NOT_VALID: ("NOT VALID", "无效", "31"),
    NOT_FOUND: ("NOT FOUND", "查无此证", "33"),
    CANNOT_DECIDE: ("CANNOT DECIDE", "无法判定", "33"),
    LISTED: ("EVERYTHING LISTED", "全部列出", "32"),
    NOTHING_BOUND: ("NOTHING BOUND", "名下无证", "33"),
}
RED = "31"

REASONS = {
    "in-force": ("in force", "在有效期内"),
    "not-yet-valid": ("not valid yet", "尚未生效"),
    "expired": ("expired", "已过期失效"),
    "suspended": ("suspended", "暂扣"),
    "revoked-annulled": ("revoked: annulled", "已撤销"),
    "revoked-penalty": ("revoked as a penalty", "已吊销"),
    "revoked-deregistered": ("revoked: deregistered", "已注销"),
    "transferred": ("transferred out, not yet taken in", "已转出"),
    "superseded": ("superseded by a later version", "已被新版本取代"),
    "no-such-version": ("there is no such version", "无此版本"),
    "voided": ("issued in error and corrected away", "已更正作废"),
    "start-unknown": ("nobody knows since when it holds", "生效时间不明"),
    "end-unknown": ("nobody knows until when it holds", "截止时间不明"),
    "all-that-is-bound": (
        "all that admitted events bound to this holder, none withheld",
        "账本归于此人名下的证照全部在此",
    ),
    "nothing-bound": ("no certificate is bound to this holder", "此人名下没有证照"),
    "not-found": ("the ledger holds no such certificate", "账本中没有此证"),
    "not-known-then": ("the ledger did not know it then", "当时账本尚无记录"),
    REFUSED: ("this file proves nothing", "此文件不能证明任何事"),
    "evidence-incomplete": ("the evidence lacks what this question needs", "证据不足"),
    "known-at-unclear": ("what the ledger knew then is not shown", "当时所知不明"),
    "key-compromised": (
        "signed with a key that was declared compromised, and not confirmed yet",
        "签名密钥已声明泄露，该记录尚未经发证机关确认",
    ),
    "checkpoint-stale": ("the evidence is not from the present", "证据已过时"),
    "issuer-silent": ("the issuer has been silent for too long", "发证机关久未报送"),
    "another-certificate": ("the file is about another certificate", "所查并非此证"),
    "witness-times-disagree": ("witnesses saw it at another time", "见证时间不符"),
    "signature-unsupported": ("this machine cannot check ML-DSA signatures", "本机无法验证签名"),
    "ambiguous": ("several certificates have this number", "同号证照不止一张"),
    "unreachable": ("the ledger cannot be reached", "无法连接账本"),
    "not-initialised": ("there is no ledger yet", "账本尚未建立"),
    "stored-bytes-damaged": ("what the ledger stores is damaged", "账本存储已损坏"),
}

_MARKS = {PASSED: "passed", FAILED: "FAILED"}
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def plain(text: object) -> str:
    """`text` with everything that could steer a terminal or reorder a line shown escaped."""
    return "".join(
        c if unicodedata.category(c) not in _HIDDEN else f"\\u{ord(c):04x}" for c in str(text)
    )


def reason_words(reason: str) -> str:
    """A reason in both languages."""
    english, chinese = REASONS.get(reason, (reason, ""))
    return f"{english} {chinese}".rstrip()


def describe(answer: Answer, colour: bool = False) -> str:
    """The answer for a person: the verdict in its first line, then what it rests on."""
    head = _head(answer, colour)
    lines = [f"{head}  {plain(answer.number)}" if answer.number else head]
    if answer.reason == REFUSED:
        lines.append(f"  This file proves nothing: {plain(answer.why)}")
    else:
        lines.append(f"  {reason_words(answer.reason)}{_since(answer)}")
        if answer.why:
            lines.append(f"  {plain(answer.why)}")
        lines += _particulars(answer)
        lines += _heard(answer)
    lines += _others(answer)
    if answer.looked_up not in (None, answer.number):
        lines.append(f"  looked up as {plain(answer.looked_up)}")
    lines += [f"  note: {plain(note)}" for note in answer.notes]
    return "\n".join(lines + _rests_on(answer))


def describe_holder(
    answer: HolderAnswer,
    colour: bool = False,
    present: Mapping[CertificateId, Answer] | None = None,
) -> str:
    """What a holder has, for a person; `present` says how each certificate stands."""
    lines = [_head(answer, colour)]
    if answer.reason == REFUSED:
        lines.append(f"  This file proves nothing: {plain(answer.why)}")
    else:
        lines.append(f"  {reason_words(answer.reason)}")
        if answer.why:
            lines.append(f"  {plain(answer.why)}")
    lines += [f"  pseudonym {pseudonym}" for pseudonym in answer.pseudonyms]
    for certificate in answer.certificates:
        type_names = answer.names.get(f"type/{certificate.type_code}")
        issuer_names = answer.names.get(f"department/{certificate.issuer}")
        lines.append(
            f"  {plain(certificate.number)}  type {plain(certificate.type_code)}"
            f"{_names(type_names)}, issuer {plain(certificate.issuer)}{_names(issuer_names)}"
        )
        if present is not None:
            now = present[certificate]
            english, chinese, _ = VERDICTS[now.answer]
            lines.append(f"    {english} {chinese}: {reason_words(now.reason)}{_since(now)}")
    if answer.formerly:
        lines.append(f"  and {answer.formerly} bound once that are bound no more")
    return "\n".join(lines + _rests_on(answer))


def _head(answer: Answer | HolderAnswer, colour: bool) -> str:
    english, chinese, code = VERDICTS[answer.answer]
    if answer.reason == REFUSED:
        code = RED
    head = f"{english} {chinese}"
    return f"\x1b[1;{code}m{head}\x1b[0m" if colour else head


def _rests_on(answer: Answer | HolderAnswer) -> list[str]:
    lines = []
    if any(check.result in _MARKS for check in answer.checks):
        lines.append("  checks:")
        for check in answer.checks:
            mark = _MARKS.get(check.result, "not checked")
            lines.append(f"    {check.name:<15} {mark:<11} {plain(check.why)}")
    if answer.tree_size is not None and answer.ledger_time is not None:
        time = format_instant(answer.ledger_time)
        lines.append(f"  as of tree size {answer.tree_size}, ledger time {time}")
    return lines


def _since(answer: Answer) -> str:
    if answer.turn is None:
        return ""
    word = "begins" if answer.reason == NOT_YET_VALID else "since"
    return f", {word} {format_instant(answer.turn)}"


def _particulars(answer: Answer) -> list[str]:
    lines = []
    found, question = answer.found, answer.question
    if found is not None and found.version:
        until = found.valid_until or "open (no last day)"
        lines.append(
            f"  version {found.version}, valid from {plain(found.valid_from or 'unknown')} "
            f"until {plain(until)}"
        )
    if answer.type_code is not None:
        lines.append(f"  type {plain(answer.type_code)}{_names(answer.names.get('type'))}")
        lines.append(f"  issuer {plain(answer.issuer)}{_names(answer.names.get('issuer'))}")
        if found is not None and found.responsible not in (None, answer.issuer):
            names = _names(answer.names.get("responsible"))
            lines.append(f"  responsible {plain(found.responsible)}{names}")
    if found is not None:
        if found.known_since is not None:
            lines.append(f"  known since {format_instant(found.known_since)}")
        for event in found.deciding:
            reason = f", reason {plain(event.reason)}" if event.reason else ""
            lines.append(
                f"  decided by {event.event} of {plain(event.time)} by {plain(event.by)}{reason}, "
                f"event {event.id}"
            )
        contact = answer.names.get("contact")
        if found.answer == NOT_VALID and contact:
            lines.append(f"  to dispute it, ask {plain(found.responsible)}: {plain(contact)}")
    if question is not None and question.at is not None:
        known = (
            ""
            if question.known_at is None
            else (f", as the ledger knew at {format_instant(question.known_at)}")
        )
        lines.append(f"  asked about {format_instant(question.at)}{known}")
    return lines


def _heard(answer: Answer) -> list[str]:
    """The last sign of life on this certificate's lane."""
    heard = answer.issuer_freshness
    if heard is None:
        return []
    limit = heard["silence_limit_seconds"]
    said = "silent by nature" if limit is None else f"it declared a limit of {limit} s"
    when = "nothing yet"
    if heard["signed_at"]:
        when = f"{heard['signed_at']}, {heard['silent_seconds']} s before the ledger time"
    return [
        f"  {plain(heard['department'])} last heard of on lane {heard['lane']}: {when} ({said})"
    ]


def _names(names: Mapping[str, Any] | None) -> str:
    if not names:
        return ""
    return " (" + " / ".join(plain(text) for text in names.values()) + ")"


def _others(answer: Answer) -> list[str]:
    lines = []
    for match in answer.matches:
        lines.append(f"    --type {plain(match['type'])} --issuer {plain(match['issuer'])}")
    for near in answer.near_misses:
        place = f" ({plain(near['type'])}, {plain(near['issuer'])})" if "type" in near else ""
        lines.append(f"  did you mean {plain(near['number'])}{place}? {plain(near['why'])}")
    return lines
