"""An answer as the page shows it: every sentence and date in one language, ready to be set.

`assets/view.js` does the same in the browser with the same texts; a test compares the two.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta
from typing import Any

from consumers.words import plain
from ledger import times

from .texts import Texts

MAX_SHOWN = 400  # characters of any text that comes from the ledger
MAX_SENTENCE = 2_000  # characters of a checker's sentence, to be said in this language
MAX_LINES = 100  # of a check's values
_UNITS = (("days", 86_400), ("hours", 3_600), ("minutes", 60), ("seconds", 1))
_JUST = 60  # seconds that are not worth a word
_REVOKED = "revoked"
_ENDS = ("suspended", "revoked", "expired", "transferred-out")
_EPOCH, _MIDNIGHT = datetime(1970, 1, 1), time()

Members = Mapping[str, Any]
View = dict[str, Any]

# A view without contents: what the browser's templates are made of.
_BLANK_EVENT = dict.fromkeys(("tone", "title", "moment", "by", "remarks", "learned", "mark"), "")
_BLANK_CHECK = dict.fromkeys(
    ("result", "word", "label", "meaning", "name", "said", "why", "values"), ""
)
BLANK: View = {
    **dict.fromkeys(
        ("tone", "when", "moment", "verdict", "number", "reason", "dispute", "summary"), ""
    ),
    "next": [{"text": ""}],
    "facts": [{"term": "", "text": ""}],
    "grounds": [{"term": "", "text": ""}],
    "events": [_BLANK_EVENT],
    "checks": [_BLANK_CHECK],
}


class Wording:
    """The texts of one language, and how dates, lengths and strangers' words are written in it."""

    def __init__(self, texts: Texts, offset: int = 0) -> None:
        self.texts = texts
        self._offset = offset  # minutes east of UTC in which moments are shown

    def say(self, key: str, **values: str) -> str:
        """The text of `key` with the values in its places."""
        return fill(self.texts.text(key), values)

    def count(self, key: str, n: int) -> str:
        """The text of `key` in its number."""
        forms = self.texts.forms(key)
        return fill(forms.get("one", forms["other"]) if n == 1 else forms["other"], {"n": f"{n:,}"})

    def foreign(self, text: object) -> str:
        """A text that somebody else wrote: nothing in it is hidden, and it ends."""
        given = str(text)
        if len(given) <= MAX_SHOWN:
            return plain(given)
        more = self.count("characters", len(given) - MAX_SHOWN)
        return plain(given[:MAX_SHOWN]) + self.say("cut", more=more)

    def explain(self, why: str) -> str:
        """A checker's English sentence in this language; empty where it has none for it."""
        if len(why) > MAX_SENTENCE:
            return ""
        for pattern, places, said in self.texts.sentences:
            fits = pattern.fullmatch(why)
            if fits:
                values = [self._place(*each) for each in zip(places, fits.groups(), strict=True)]
                if all(values):
                    return fill(said, dict(zip(places, values, strict=True)))
        return ""

    def _place(self, name: str, value: str) -> str:
        """What stands in a place of a sentence; empty where it is a sentence without a text."""
        if name == "moment":
            return self.moment(value)
        if name == "why":
            return self.explain(value)
        if name == "list":
            parts = [self.explain(part) for part in value.split(", ")]
            return self.say("decided.join").join(parts) if all(parts) else ""
        return (name == "act" and self.texts.optional(f"event.{value}")) or self.foreign(value)

    def name(self, names: Mapping[str, str] | None, code: str | None) -> str:
        """What has names, in this language where it has one, with its code."""
        shown = self.foreign(code or "")
        if not names:
            return shown
        chosen = names.get(self.texts.language) or next(iter(names.values()))
        return self.say("code", name=self.foreign(chosen), code=shown)

    def day(self, text: str) -> str:
        """A day with its offset, which is the day that the department wrote."""
        return self._date(int(text[:4]), int(text[5:7]), int(text[8:10]))

    def moment(self, text: str) -> str:
        """An RFC 3339 moment; without its time where a day begins then."""
        instant, offset = times.parse_moment(text), self._offset
        try:
            shown = _EPOCH + timedelta(microseconds=instant + offset * 60 * times.SECOND)
        except OverflowError:  # the first and the last hours of the calendar
            shown, offset = _EPOCH + timedelta(microseconds=instant), 0
        date = self._date(shown.year, shown.month, shown.day)
        if shown.time() == _MIDNIGHT:
            return date
        return self.say("date.time", date=date, time=f"{shown:%H:%M}", zone=_zone(offset))

    def duration(self, seconds: int) -> str:
        """A length of time in its largest unit."""
        for unit, length in _UNITS:
            if seconds >= length:
                return self.count(f"duration.{unit}", seconds // length)
        return self.count("duration.seconds", 0)

    def validity(self, begin: str | None, end: str | None) -> str:
        """From when until when, as far as it is known."""
        first = self._edge(begin)
        if end is None or end == "open":
            return self.say("validity.open", begin=first)
        return self.say("validity.range", begin=first, end=self._edge(end))

    def _edge(self, day: str | None) -> str:
        known = day is not None and day[:1].isdigit()
        return self.day(str(day)) if known else self.say("validity.unknown")

    def _date(self, year: int, month: int, day: int) -> str:
        name = self.texts.months[month - 1]
        return self.say("date", year=str(year), month=name, day=str(day))


def answer_view(
    members: Members,
    texts: Texts,
    asked: Mapping[str, str],
    names: Mapping[str, Any],
    events: Sequence[Members],
    trust: str,
) -> View:
    """What the page shows of the answer `members` (the JSON of `verify --json`).

    `asked` is the question's `at` and `known_at` as moments, where they were given; `names` those
    of types and departments by record name; `events` the history, oldest first; `trust` a sentence.
    """
    wording = Wording(texts, _offset_of(members, events))
    reason = str(members["reason"])
    refused = reason == "evidence-refused"
    # where nothing was looked at there is nothing to show of it
    looked_at = refused or any(c["result"] != "not-checked" for c in members["checks"])
    checks = [_check(wording, check) for check in members["checks"] if looked_at]
    return {
        "tone": "refused" if refused else str(members["answer"]),
        "when": "then" if asked else "now",
        "moment": _moment(wording, asked),
        "verdict": wording.say(f"verdict.{members['answer']}"),
        "number": wording.foreign((members["certificate"] or {}).get("number") or ""),
        "reason": _reason(wording, members),
        "next": _next(wording, members, asked, names),
        "dispute": _dispute(wording, members),
        "near": [_near(wording, members, near) for near in members.get("near_misses", ())],
        "matches": [_match(wording, match, names) for match in members.get("matches", ())],
        "facts": [] if refused else _facts(wording, members),
        "grounds": _grounds(wording, members, trust) if looked_at else [],
        "events": [_event(wording, event, names) for event in events],
        "checks": checks,
        "summary": wording.say(
            "checks.summary",
            passed=str(sum(1 for check in checks if check["result"] == "passed")),
            failed=str(sum(1 for check in checks if check["result"] == "failed")),
            unchecked=str(sum(1 for check in checks if check["result"] == "not-checked")),
        ),
    }


def _moment(wording: Wording, asked: Mapping[str, str]) -> str:
    parts = [wording.say("now")]
    if "at" in asked:
        parts = [wording.say("moment.at", moment=wording.moment(asked["at"]))]
    if "known_at" in asked:
        parts.append(wording.say("moment.known", moment=wording.moment(asked["known_at"])))
    return wording.say("separator").join(parts)


def _reason(wording: Wording, members: Members) -> str:
    parts = [wording.texts.optional(f"reason.{members['reason']}") or str(members["reason"])]
    certificate = members["certificate"] or {}
    begin = certificate.get("valid_from")
    if members["reason"] == "not-yet-valid" and begin:
        parts.append(wording.say("begins", moment=wording.day(begin)))
    elif members["since"]:
        parts.append(wording.say("since", moment=wording.moment(members["since"])))
    return wording.say("separator").join(parts)


def _next(
    wording: Wording, members: Members, asked: Mapping[str, str], names: Mapping[str, Any]
) -> list[View]:
    """What to know and to do now, a sentence each."""
    answer, reason = members["answer"], members["reason"]
    found = [wording.texts.optional(f"next.{reason}")]
    if "at" in asked and members["ledger_time"]:
        ahead = times.parse_moment(asked["at"]) - times.parse_moment(members["ledger_time"])
        if ahead > _JUST * times.SECOND:
            found.append(wording.say("next.ahead"))
    unheard = [
        wording.name(names.get(f"department/{code}"), code) for code in members.get("unheard", ())
    ]
    if unheard:
        found.append(wording.say("next.unheard", names=wording.say("decided.join").join(unheard)))
    if answer == "not-found" and not (members["certificate"] or {}).get("type"):
        found.append(wording.say("next.absent"))
    if answer == "cannot-decide" and reason not in ("evidence-refused", "ambiguous"):
        found.insert(0, wording.say("next.cannot-decide"))
    return [{"text": text} for text in found if text]


def _dispute(wording: Wording, members: Members) -> str:
    names = members.get("names", {})
    if members["answer"] != "not-valid" or not names.get("contact"):
        return ""
    who = wording.name(names.get("responsible") or names.get("issuer"), _responsible(members))
    return wording.say("dispute", name=who, contact=wording.foreign(names["contact"]))


def _responsible(members: Members) -> str:
    heard = members.get("issuer_freshness") or {}
    return str(heard.get("department") or (members["certificate"] or {}).get("issuer") or "")


def _near(wording: Wording, members: Members, near: Mapping[str, str]) -> View:
    if "type" in near:
        why = wording.say("near.character")
    else:
        wrong = str(members.get("looked_up") or "")[-1:]
        expected = near["number"][-1:]
        why = wording.say("near.check", expected=expected, found=wording.foreign(wrong))
    return {
        "text": wording.foreign(near["number"]),
        "why": why,
        "question": {name: near[name] for name in ("number", "type", "issuer") if name in near},
    }


def _match(wording: Wording, match: Mapping[str, str], names: Mapping[str, Any]) -> View:
    type_names = names.get(f"type/{match['type']}")
    issuer_names = names.get(f"department/{match['issuer']}")
    return {
        "text": wording.name(type_names, match["type"]),
        "why": wording.name(issuer_names, match["issuer"]),
        "question": dict(match),
    }


def _facts(wording: Wording, members: Members) -> list[dict[str, str]]:
    """What the certificate is."""
    certificate, names = members["certificate"] or {}, members.get("names", {})
    facts: list[tuple[str, str]] = []
    looked_up = members.get("looked_up")
    if looked_up is not None and looked_up != certificate.get("number"):
        facts.append(("looked-up", wording.foreign(looked_up)))
    if certificate.get("type"):
        facts.append(("type", wording.name(names.get("type"), certificate["type"])))
        facts.append(("issuer", wording.name(names.get("issuer"), certificate["issuer"])))
        responsible = _responsible(members)
        if responsible != certificate["issuer"]:
            facts.append(("responsible", wording.name(names.get("responsible"), responsible)))
    if certificate.get("version"):
        validity = wording.validity(certificate["valid_from"], certificate["valid_until"])
        facts.append(("validity", validity))
        facts.append(("version", str(certificate["version"])))
    if members.get("known_since"):
        facts.append(("known-since", wording.moment(members["known_since"])))
    return _terms(wording, facts)


def _grounds(wording: Wording, members: Members, trust: str) -> list[dict[str, str]]:
    """What the answer rests on."""
    grounds: list[tuple[str, str]] = []
    deciding = [
        _decided(wording, event, members["reason"]) for event in members.get("deciding", ())
    ]
    if deciding:
        grounds.append(("decided-by", wording.say("decided.join").join(deciding)))
    heard = members.get("issuer_freshness")
    if heard is not None and (members["certificate"] or {}).get("issuer"):
        grounds.append(("heard", _heard(wording, heard)))
    if members["tree_size"] is not None and members["ledger_time"]:
        entries = wording.count("entries", members["tree_size"])
        moment = wording.moment(members["ledger_time"])
        grounds.append(("as-of", wording.say("as-of", moment=moment, entries=entries)))
    grounds.append(("trust", trust))
    return _terms(wording, grounds)


def _terms(wording: Wording, said: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"term": wording.say(f"fact.{term}"), "text": text} for term, text in said]


def _decided(wording: Wording, event: Members, answer_reason: str) -> str:
    # which kind of revocation it was, the answer's reason says
    kind = answer_reason if event["event"] == _REVOKED else event["event"]
    title = wording.texts.optional(f"event.{kind}") or wording.foreign(event["event"])
    text = wording.say("decided", event=title, moment=wording.moment(event["time"]))
    if event["reason"]:
        code = wording.say("reason.code", code=wording.foreign(event["reason"]))
        text = wording.say("separator").join((text, code))
    return text


def _heard(wording: Wording, heard: Members) -> str:
    limit = heard["silence_limit_seconds"]
    last = wording.say("heard.never")
    if heard["signed_at"]:
        silent = heard["silent_seconds"]
        last = wording.say(
            "heard.just" if silent < _JUST else "heard.at",
            moment=wording.moment(heard["signed_at"]),
            duration=wording.duration(silent),
        )
    promise = (
        wording.say("heard.no-limit")
        if limit is None
        else wording.say("heard.limit", duration=wording.duration(limit))
    )
    return wording.say("separator").join((last, promise))


def _event(wording: Wording, event: Members, names: Mapping[str, Any]) -> View:
    kind = str(event["event"])
    if kind == _REVOKED:
        kind = f"{_REVOKED}-{event.get('revocation')}"
    dated = event.get("valid_from") or event.get("valid_until")
    remarks = []
    if dated:
        validity = wording.validity(
            event.get("valid_from") or event["time"], event.get("valid_until")
        )
        remarks.append(wording.say("timeline.validity", validity=validity))
    if event.get("reason"):
        remarks.append(wording.say("reason.code", code=wording.foreign(event["reason"])))
    learned = event.get("learned_at")
    return {
        "tone": "ends" if event["event"] in _ENDS else "holds",
        "title": wording.texts.optional(f"event.{kind}") or wording.foreign(kind),
        "moment": wording.moment(event["time"]),
        "by": wording.say(
            "timeline.by", name=wording.name(names.get(f"department/{event['by']}"), event["by"])
        ),
        "remarks": wording.say("separator").join(remarks),
        "learned": (learned and wording.say("timeline.learned", moment=wording.moment(learned)))
        or "",
        "mark": wording.say("timeline.voided")
        if event.get("voided")
        else wording.say("timeline.restated")
        if event.get("restated")
        else "",
    }


def _check(wording: Wording, check: Members) -> View:
    said = wording.explain(check["why"])
    return {
        "result": check["result"],
        "word": wording.say(f"check.{check['result']}"),
        "label": wording.say(f"check.{check['name']}"),
        "meaning": wording.say(f"check.{check['name']}.meaning"),
        "name": check["name"],
        "said": said,
        "why": "" if said else wording.foreign(check["why"]),
        "values": _values(wording, check.get("values")),
    }


def _values(wording: Wording, values: Members | None) -> str:
    """The raw values that a check looked at, as JSON; empty without any."""
    if not values:
        return ""
    lines = json.dumps(values, ensure_ascii=False, indent=2).split("\n")
    shown = [wording.foreign(line) for line in lines[:MAX_LINES]]
    return "\n".join([*shown, "…"] if len(lines) > MAX_LINES else shown)


# --- moments -------------------------------------------------------------------------------------


def fill(text: str, values: Mapping[str, str]) -> str:
    """`text` with the values in the places that name them, each once and never inside another."""
    out, rest = "", text
    while "{" in rest:
        head, _, rest = rest.partition("{")
        name, _, rest = rest.partition("}")
        out += head + values[name]
    return out + rest


def offset_minutes(text: str) -> int:
    """Minutes east of UTC at the end of a moment or a day with offset."""
    if not text or text[-1] == "Z":
        return 0
    minutes = int(text[-5:-3]) * 60 + int(text[-2:])
    return -minutes if text[-6] == "-" else minutes


def _offset_of(members: Members, events: Sequence[Members]) -> int:
    """Where the answer's moments are at home: the offset of the certificate's days, else of its
    events' days, else of its events' times, which registers often write in UTC.
    """
    deciding = members.get("deciding", ())
    dated = [members["certificate"] or {}, *events]
    days = [item.get(name) for item in dated for name in ("valid_from", "valid_until")]
    for text in (*days, *(event["time"] for event in (*deciding, *events))):
        if text and text[:1].isdigit():
            return offset_minutes(text)
    return 0


def _zone(offset: int) -> str:
    if offset == 0:
        return "UTC"
    hours, minutes = divmod(abs(offset), 60)
    sign = "-" if offset < 0 else "+"
    return f"UTC{sign}{hours}" + (f":{minutes:02d}" if minutes else "")
