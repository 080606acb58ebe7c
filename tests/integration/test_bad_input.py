"""Questions that are wrong, early, late or unclear: each has its own answer, words, JSON, code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy import cli
from ledger import identity, merkle, times
from ledger.trust import Trust, TrustedKey, format_trust
from tests import world
from tests.stored_ledger import StoredLedger, reset

OTHER_TYPE = "11100000000013338W032"
TIME = "2026-03-01T08:00:00+08:00"
NUMBER = "衛部粧廣字10507075"
SERIAL = "20230000403"
AUTHORITY = world.department_change("a")["authority_code"]
IDENTIFIER = str(identity.Identifier(world.TYPE, AUTHORITY, SERIAL, 1))


@dataclass
class Asked:
    """What one command came to."""

    code: int
    out: str
    err: str

    @property
    def value(self) -> dict[str, Any]:
        made: dict[str, Any] = json.loads(self.out)
        return made


@dataclass
class Clerk:
    """Somebody at a terminal of the ledger."""

    data: Path
    url: str
    began: str
    capsys: pytest.CaptureFixture[str]

    def run(self, *words: str) -> Asked:
        with pytest.raises(SystemExit) as done:
            cli.main([*words, "--data", str(self.data)])
        said = self.capsys.readouterr()
        return Asked(int(str(done.value.code)), said.out, said.err)

    def ask(self, *words: str) -> tuple[Asked, Asked]:
        """The question in words and with --json: the same code, and no surprises."""
        spoken, machine = self.run("verify", *words), self.run("verify", *words, "--json")
        assert spoken.code == machine.code
        assert not spoken.out
        assert "Traceback" not in spoken.err
        return spoken, machine


@pytest.fixture(scope="module")
def stored(module_database_url: str) -> Iterator[tuple[StoredLedger, str]]:
    reset(module_database_url)
    ledger = StoredLedger(module_database_url)
    book = ledger.registrar.book
    book.index = ledger.rows("SELECT next_index FROM allocation")[0][0]
    book.set_type([("a", world.ALL_ACTS, "own")], OTHER_TYPE)
    book.set_type([("a", world.ALL_ACTS, "own"), ("b", world.ALL_ACTS, "own")])
    ledger.registrar.apply()
    days = {"valid_from": "2016-01-01+08:00", "valid_until": "2016-12-31+08:00"}
    lines = [
        ledger.event("issued", NUMBER, time=TIME, **days),
        ledger.event("issued", SERIAL, time=TIME, valid_from="2020-01-01+08:00"),
        ledger.event("issued", "TWIN-1", time=TIME),
        ledger.event("issued", "TWIN-1", time=TIME, type_code=OTHER_TYPE),
    ]
    assert ledger.send(ledger.make(lines)) == {"logged": 1}
    other = ledger.event("issued", "TWIN-1", time=TIME, issuer="b")
    assert ledger.send(ledger.make([other], "b")) == {"logged": 1}
    assert ledger.counts() == {"admitted": 5}
    ledger.checkpoint()
    genesis = ledger.rows("SELECT data FROM entry WHERE log_index = 0")[0][0]
    yield ledger, json.loads(genesis)["time"]
    ledger.close()


@pytest.fixture
def clerk(
    stored: tuple[StoredLedger, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Clerk:
    ledger, began = stored
    genesis = merkle.leaf_hash(ledger.rows("SELECT data FROM entry WHERE log_index = 0")[0][0])
    trusted = TrustedKey(world.CHECKPOINT.key, 0, None)
    trust = Trust(world.ORIGIN, genesis, (trusted,), operator=world.OPERATOR.key)
    (tmp_path / "trust.json").write_bytes(format_trust(trust))
    monkeypatch.setenv("CERTLEDGER_POSTGRES", ledger.url)
    return Clerk(tmp_path, ledger.url, began, capsys)


@pytest.mark.parametrize("number", [NUMBER, "no such number"])
@pytest.mark.parametrize("option", ["--at", "--known-at", "--relied-at"])
@pytest.mark.parametrize(
    ("when", "why"),
    [
        ("2026-02-30", "'2026-02-30' is no day of the calendar"),
        ("2025-13-01", "'2025-13-01' is no day of the calendar"),
        ("2025-02-29T10:00:00+08:00", "'2025-02-29' is no day of the calendar"),
        ("2025-02-28T24:00:00+08:00", "is no moment like"),
        ("2025-02-28T10:00:00+15:00", "is no offset"),
        ("0000-01-01", "begins in year 1"),
        ("0000-12-31T23:59:59Z", "begins in year 1"),
        ("10000-01-01", "neither a date"),
        ("1.12.2016", "neither a date"),
        ("２０１６-01-01", "neither a date"),
        ("yesterday", "neither a date"),
        ("", "neither a date"),
    ],
)
def test_impossible_moments_are_no_questions(
    clerk: Clerk, number: str, option: str, when: str, why: str
) -> None:
    spoken, machine = clerk.ask(number, option, when)
    assert spoken.code == 2
    assert why in spoken.err
    assert machine.value["error"] == "malformed-time"
    assert why in machine.value["message"]


def test_a_year_before_the_first_is_usage(clerk: Clerk) -> None:
    assert clerk.run("verify", NUMBER, "--at", "-0044-03-15").code == 2
    assert clerk.run("verify", NUMBER, "--at=-0044-03-15").code == 2
    spoken, _ = clerk.ask(NUMBER, "--at", "0001-01-01")
    assert spoken.code == 1
    assert "not valid yet" in spoken.err


def test_an_unknown_number(clerk: Clerk) -> None:
    spoken, machine = clerk.ask(" ＮＯ-Ｓｕｃｈ ")
    assert spoken.code == 3
    assert spoken.err.startswith("NOT FOUND 查无此证  NO-Such")
    assert (machine.value["answer"], machine.value["looked_up"]) == ("not-found", "NO-Such")
    assert "near_misses" not in machine.value
    for command in ("history", "evidence"):
        words = ["-o", str(clerk.data / "f")] if command == "evidence" else []
        assert clerk.run(command, "NO-Such", *words).code == 3
        assert not (clerk.data / "f").exists()


@pytest.mark.parametrize(
    "near", ["衛部粧廣字10507076", "衛部粧廣字1050707", "衛部粧廣字10570075", "衛部粧廣字105O7075"]
)
def test_one_character_off_is_offered(clerk: Clerk, near: str) -> None:
    spoken, machine = clerk.ask(near)
    assert spoken.code == 3
    assert f"did you mean {NUMBER}" in spoken.err
    (offered,) = machine.value["near_misses"]
    assert (offered["number"], offered["issuer"]) == (NUMBER, "a")


def test_an_identifiers_check_character(clerk: Clerk) -> None:
    assert clerk.ask(IDENTIFIER)[0].code == 0
    wrong = IDENTIFIER[:-1] + ("A" if IDENTIFIER[-1] != "A" else "B")
    spoken, machine = clerk.ask(wrong)
    assert spoken.code == 3
    assert f"did you mean {IDENTIFIER}?" in spoken.err
    assert machine.value["looked_up"] == wrong
    assert machine.value["near_misses"][0]["number"] == IDENTIFIER


@pytest.mark.parametrize(
    "written",
    [
        IDENTIFIER.lower(),
        f"  {IDENTIFIER}\u3000",
        "".join(chr(ord(c) + 0xFEE0) for c in IDENTIFIER),
        " ".join(IDENTIFIER[n : n + 6] for n in range(0, len(IDENTIFIER), 6)),
        IDENTIFIER.replace(".", " . "),
    ],
    ids=["lower case", "spaces around", "full width", "groups of six", "spaces at the dots"],
)
def test_an_identifier_is_normalised_and_shown_as_looked_up(clerk: Clerk, written: str) -> None:
    spoken, machine = clerk.ask(written)
    assert spoken.code == 0
    assert f"looked up as {IDENTIFIER}" in spoken.err
    assert machine.value["looked_up"] == IDENTIFIER
    assert machine.value["certificate"]["number"] == SERIAL


@pytest.mark.parametrize(
    "number",
    [
        "1-1000000",
        "000001~999999",
        "A-1..A-1000000",
        "１～１００００００",
        "川A-1 至 川A-9",
        "7 – 9",
    ],
)
@pytest.mark.parametrize("command", ["verify", "history", "evidence"])
def test_a_range_is_refused_as_such(clerk: Clerk, number: str, command: str) -> None:
    words = ["-o", "never-written"] if command == "evidence" else []
    spoken, machine = (clerk.run(command, number, *words, *j) for j in ([], ["--json"]))
    assert (spoken.code, machine.code) == (2, 2)
    assert "looks like a range" in spoken.err
    assert machine.value["error"] == "usage"
    assert clerk.run(command, *number.split(), "1", *words).code == 2


@pytest.mark.parametrize("number", ["2023-0403", "12-34", "A-1-2"])
def test_a_number_with_a_hyphen_is_a_number(clerk: Clerk, number: str) -> None:
    expected = 2 if number == "12-34" else 3  # ascending digits alone: a range
    assert clerk.ask(number)[0].code == expected


def test_numbers_that_are_none(clerk: Clerk) -> None:
    for number in ("", "   ", "a\nb", "x" * 1025, "\udcff"):
        spoken, machine = clerk.ask(number)
        assert spoken.code == 2, number
        assert machine.value["error"] == "malformed-number"


def test_one_number_in_two_registers_asks_which(clerk: Clerk) -> None:
    spoken, machine = clerk.ask("TWIN-1")
    assert spoken.code == 4
    assert spoken.err.startswith("CANNOT DECIDE 无法判定  TWIN-1")
    assert "say which one by --type and --issuer" in spoken.err
    assert f"--type {OTHER_TYPE} --issuer a" in spoken.err
    value = machine.value
    assert (value["answer"], value["reason"]) == ("cannot-decide", "ambiguous")
    found = [(m["type"], m["issuer"]) for m in value["matches"]]
    assert found == [(world.TYPE, "a"), (world.TYPE, "b"), (OTHER_TYPE, "a")]
    assert clerk.ask("TWIN-1", "--type", world.TYPE)[0].code == 4
    assert clerk.ask("TWIN-1", "--type", OTHER_TYPE)[0].code == 0
    assert clerk.ask("TWIN-1", "--issuer", "b")[0].code == 0
    assert clerk.ask("TWIN-1", "--issuer", "nobody")[0].code == 3


def test_a_moment_to_come_is_answered_with_a_note(clerk: Clerk, tmp_path: Path) -> None:
    spoken, machine = clerk.ask(SERIAL, "--at", "2999-01-01")
    assert spoken.code == 0
    assert "note: that moment is yet to come" in spoken.err
    assert machine.value["answer"] == "valid"
    assert any("yet to come" in note for note in machine.value["notes"])
    file = tmp_path / "f.evidence.json"
    assert clerk.run("evidence", SERIAL, "-o", str(file), "--at", "2999-01-01").code == 0
    assert "yet to come" in clerk.run("verify", str(file), "--as-asked").err
    assert "yet to come" not in clerk.ask(SERIAL)[0].err
    assert "yet to come" not in clerk.ask(SERIAL, "--at", "2025-01-01")[0].err


def test_known_before_the_ledger_began(clerk: Clerk) -> None:
    spoken, machine = clerk.ask(SERIAL, "--known-at", "2001-01-01")
    assert spoken.code == 3
    assert "the ledger did not know it then" in spoken.err
    assert f"note: the ledger began at {clerk.began}" in spoken.err
    assert (machine.value["answer"], machine.value["reason"]) == ("not-found", "not-known-then")
    assert any("the ledger began at" in note for note in machine.value["notes"])


def test_known_at_a_moment_to_come(clerk: Clerk) -> None:
    spoken, machine = clerk.ask(SERIAL, "--known-at", "2999-01-01T00:00:00Z")
    assert spoken.code == 4
    assert "nobody knows yet what the ledger will know then" in spoken.err
    assert (machine.value["answer"], machine.value["reason"]) == (
        "cannot-decide",
        "known-at-unclear",
    )


def test_a_bare_date_is_the_issuers(clerk: Clerk) -> None:
    spoken, machine = clerk.ask(NUMBER, "--at", "2016-01-01")
    assert spoken.code == 0
    assert "2016-01-01 was read as 00:00 of that day in Asia/Shanghai" in spoken.err
    assert machine.value["at"] == "2015-12-31T16:00:00Z"
    for moment, code in (("2015-12-31T15:59:59Z", 1), ("2015-12-31T16:00:00Z", 0)):
        answered, value = clerk.ask(NUMBER, "--at", moment)
        assert answered.code == code
        assert "notes" not in value.value
    assert times.parse_moment(machine.value["at"]) == times.day_start("2016-01-01+08:00")
