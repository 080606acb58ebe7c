"""`certledger audit` against ledgers that behave and ledgers that really misbehave.

The histories come out of a real ledger; what is altered in them is signed with the ledger's key.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consumers import audit_commands, verifier
from consumers.audit import Result, audit
from consumers.audit_state import State, load_state, save_state
from consumers.fsck_lines import Beside
from consumers.log_client import HttpLog
from ledger import canonical, lifecycle
from ledger.admission import Turn
from ledger.cosignature import COSIGNATURE_V1, Cosigner
from ledger.entry import format_registry, format_status, parse_entry
from ledger.errors import CODES, LedgerError
from ledger.evidence import format_evidence, parse_evidence
from ledger.identity import certificate_key
from ledger.misbehaviour import (
    Misbehaviour,
    check_misbehaviour,
    format_misbehaviour,
    parse_misbehaviour,
)
from ledger.note import sign
from ledger.policy import Witness, simple_policy
from ledger.trust import Trust, TrustedKey, TrustedQuorum, format_trust, parse_trust
from tests import world
from tests.log_serving import History, Server, log_serving, stored_history
from tests.stored_ledger import StoredLedger, damage, reset

STRANGER = world.signer(world.ORIGIN, "another key of the same name")


@pytest.fixture(scope="module")
def history(module_database_url: str) -> History:
    """A real ledger over several tiles, with maps in its status entries."""
    reset(module_database_url)
    ledger = StoredLedger(module_database_url)
    try:
        for n in range(6):
            records = [ledger.make(ledger.issued(f"{n}-{i}", f"{n}-{i}+")) for i in range(55)]
            assert ledger.send(*records) == {"logged": len(records)}
            ledger.checkpoint()
        for lines in (ledger.issued("late"), [ledger.event("suspended", "0-0", reason_code="x")]):
            ledger.send(ledger.make(lines))
        ledger.checkpoint()
        ledger.check()
        return stored_history(ledger.url)
    finally:
        ledger.close()


@pytest.fixture
def server(history: History) -> Iterator[Server]:
    with log_serving(history) as running:
        yield running


TRUST = Trust(world.ORIGIN, b"", (TrustedKey(world.CHECKPOINT.key, 0, None),))


def look(server: Server, state: State | None = None) -> Result:
    log = HttpLog(server.url)
    try:
        return audit(log, TRUST, State() if state is None else state)
    finally:
        log.close()


def seen(server: Server, history: History, tmp_path: Path) -> Path:
    """The state file of a clean audit of this history."""
    server.history = history
    result = look(server)
    assert result.findings == []
    save_state(tmp_path / "state", result.state)
    return tmp_path / "state"


def proven(result: Result) -> bool:
    """Whether the misbehaviour file, as it is written, proves its claim."""
    assert result.misbehaviour is not None
    again = parse_misbehaviour(format_misbehaviour(result.misbehaviour) + b"\n")
    assert again == result.misbehaviour
    return check_misbehaviour(again, TRUST).proven


def kinds(result: Result) -> set[str]:
    return {finding.kind for finding in result.findings}


def status_sizes(history: History) -> list[int]:
    """Sizes at which the log ended in a status entry with maps."""
    return [n + 1 for n, data in enumerate(history.entries) if "holders_map" in parse_entry(data)]


# --- behaving ------------------------------------------------------------------------------------


def test_a_growing_log_is_audited_piece_by_piece(
    server: Server, history: History, tmp_path: Path
) -> None:
    sizes = status_sizes(history)
    assert len(sizes) > 5
    path = tmp_path / "state"
    events = 0
    for size in sizes:
        server.history = history.cut(size)
        state = load_state(path)
        before = state.size
        result = look(server, state)
        assert result.findings == []
        assert (result.since, result.checkpoint.size) == (before, size)
        assert result.counts["entries"] == size - before
        events += result.counts.get("events", 0)
        save_state(path, result.state)
        again = look(server, load_state(path))
        assert (again.findings, again.counts) == ([], {})
    whole = look(server)
    assert whole.counts["events"] == events == 6 * 110 + 2
    assert whole.counts["status maps"] == len(sizes)
    assert whole.state.map.root() == load_state(path).map.root()


def test_a_damaged_state_file_is_refused(server: Server, history: History, tmp_path: Path) -> None:
    path = seen(server, history, tmp_path)
    data = path.read_bytes()
    for place in (0, 40, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(LedgerError, match="malformed-state"):
            load_state(path)
    path.write_bytes(data[:-1])
    with pytest.raises(LedgerError, match="malformed-state"):
        load_state(path)


# --- two histories -------------------------------------------------------------------------------


def other(history: History, index: int) -> History:
    """A history that differs from `index` on: the entry there came a little later."""
    value = parse_entry(history.entries[index])
    time = value["time"].removesuffix("Z")
    later = time[:-1] + ("1" if time[-1] == "0" else "0") + "1Z" if "." in time else time + ".1Z"
    return history.altered(index, canonical.format({**value, "time": later}))


def test_two_roots_of_one_size_are_a_fork(server: Server, history: History, tmp_path: Path) -> None:
    path = seen(server, history, tmp_path)
    server.history = other(history, history.size - 1)
    result = look(server, load_state(path))
    assert kinds(result) == {"fork"}
    assert proven(result)


def test_two_histories_are_seen_though_no_witness_cosigned_the_second(
    server: Server, history: History, tmp_path: Path
) -> None:
    """Who forks a ledger has no quorum for it: what its own keys signed counts all the same."""
    witness = Witness("w", Cosigner("witness.example/w", COSIGNATURE_V1, bytes(32)).key, "")
    quorum = TrustedQuorum(simple_policy([witness], 1), 0, None)
    trust = replace(TRUST, quorums=(quorum,))
    sizes = status_sizes(history)

    def look_again(old: int, shown: History) -> Result:
        path = seen(server, history.cut(old), tmp_path)
        server.history = shown
        log = HttpLog(server.url)
        try:
            return audit(log, trust, load_state(path))
        finally:
            log.close()

    for old, kind in ((history.size, "fork"), (sizes[2], "inconsistent")):
        result = look_again(old, other(history, old - 1))
        assert kinds(result) == {kind}
        assert result.judgement is not None
        assert result.judgement.proven
        assert proven(result)
    for old, shown in (
        (history.size, history),
        (sizes[2], history),
        (history.size, history.cut(sizes[2])),
        (history.size, replace(other(history, history.size - 1), signer=STRANGER)),
    ):
        with pytest.raises(LedgerError, match="checkpoint-refused"):
            look_again(old, shown)


def test_a_log_that_grew_out_of_another_history(
    server: Server, history: History, tmp_path: Path
) -> None:
    sizes = status_sizes(history)
    for old in (sizes[0], sizes[2], sizes[-2]):
        path = seen(server, history.cut(old), tmp_path)
        server.history = other(history, old - 1)
        result = look(server, load_state(path))
        assert kinds(result) == {"inconsistent"}
        assert proven(result)


def test_a_shrunk_log(server: Server, history: History, tmp_path: Path) -> None:
    sizes = status_sizes(history)
    path = seen(server, history, tmp_path)
    server.history = history.cut(sizes[1])
    result = look(server, load_state(path))
    assert kinds(result) == {"shrunk"}
    assert not proven(result), "an old checkpoint contradicts nothing"
    server.history = other(history, sizes[1] - 1).cut(sizes[1])
    result = look(server, load_state(path))
    assert kinds(result) == {"inconsistent"}
    assert proven(result)


def test_a_misbehaviour_file_cannot_be_made_up(
    server: Server, history: History, tmp_path: Path
) -> None:
    path = seen(server, history, tmp_path)
    server.history = other(history, history.size - 1)
    fork = look(server, load_state(path)).misbehaviour
    assert fork is not None
    twice = (fork.checkpoints[0],) * 2
    forged = replace(server.history, signer=STRANGER).checkpoint()
    for made in (
        replace(fork, checkpoints=twice),
        replace(fork, checkpoints=(fork.checkpoints[0], forged)),
        replace(fork, checkpoints=fork.checkpoints[:1]),
        replace(fork, checkpoints=()),
        replace(fork, kind="inconsistent"),
        replace(fork, kind="entry"),
        replace(fork, kind="outcome"),
        replace(fork, origin="other.example"),
    ):
        assert not check_misbehaviour(made, TRUST).proven
    small = history.cut(status_sizes(history)[0])
    both = (small.checkpoint(), history.checkpoint())
    for hashes in ((), (bytes(32),) * 3, tuple(history.leaves()[:9])):
        made = Misbehaviour(world.ORIGIN, "inconsistent", "made up", both, hashes)
        assert not check_misbehaviour(made, TRUST).proven


# --- one history, against the rules --------------------------------------------------------------


def with_members(data: bytes, **members: Any) -> bytes:
    return canonical.format({**parse_entry(data), **members})


def find(history: History, kind: str, last: bool = False) -> int:
    places = [n for n, data in enumerate(history.entries) if parse_entry(data)["kind"] == kind]
    return places[-1 if last else 1 if kind != "genesis" else 0]


Alter = Callable[[History], History]


def signed_by_a_thief(history: History) -> History:
    index = find(history, "bundle")
    text = parse_entry(history.entries[index])["note"].partition("\n\n")[0].encode() + b"\n"
    note = sign(text, [world.bundle_signer("a", "a thief's")]).decode()
    return history.altered(index, with_members(history.entries[index], note=note))


def time_back(history: History) -> History:
    index = find(history, "bundle", last=True)
    entry = with_members(history.entries[index], time="2020-01-01T00:00:00Z")
    return history.altered(index, entry)


def no_entry(history: History) -> History:
    return history.altered(find(history, "bundle"), b'{"no":"entry"}')


def second_genesis(history: History) -> History:
    return history.altered(history.size - 2, history.entries[0])


def wrong_reflects(history: History) -> History:
    index = find(history, "status")
    return history.altered(index, with_members(history.entries[index], reflects=index - 1))


def wrong_registry_root(history: History) -> History:
    index = find(history, "status", last=True)
    return history.altered(index, with_members(history.entries[index], registry_root="0" * 64))


def wrong_map_root(history: History) -> History:
    index = find(history, "status", last=True)
    head = parse_entry(history.entries[index])["certificates_map"]
    entry = with_members(history.entries[index], certificates_map={**head, "root": "0" * 64})
    return history.altered(index, entry)


def wrong_map_k(history: History) -> History:
    index = find(history, "status", last=True)
    head = parse_entry(history.entries[index])["certificates_map"]
    entry = with_members(history.entries[index], certificates_map={**head, "k": head["k"] + 1})
    return history.altered(index, entry)


def wrong_delta_list(history: History) -> History:
    index = find(history, "bundle")
    return history.altered(index, history.entries[index], history.deltas[index][64:])


def delta_beside_status(history: History) -> History:
    index = find(history, "status")
    return history.altered(index, history.entries[index], bytes(64))


def bundle_twice(history: History) -> History:
    index = find(history, "bundle")
    entry = history.entries[index]
    return history.altered(index + 1, entry, history.deltas[index])


def bundle_left_out(history: History) -> History:
    index = find(history, "bundle")
    entry = format_status(index, bytes(32), parse_entry(history.entries[index])["time"])
    return history.altered(index, entry, b"")


def refused_for_signing_time(history: History) -> History:
    index = find(history, "bundle")
    count = sum(sum(r[1::2]) for r in parse_entry(history.entries[index])["outcome"].values())
    entry = with_members(history.entries[index], outcome={"signing-time": [0, count]})
    return history.altered(index, entry)


def outcome_too_short(history: History) -> History:
    index = find(history, "bundle")
    entry = with_members(history.entries[index], outcome={"admitted": [0, 1]})
    return history.altered(index, entry)


def key_by_nobody(history: History) -> History:
    thief = world.bundle_signer("a", "a thief's")
    change = world.key_change(thief, "bundle", "a")
    note = world.Book().note(f"key/{thief.key.key_id}", change, thief)
    index = history.size - 2
    entry = format_registry(note, parse_entry(history.entries[index])["time"])
    return history.altered(index, entry, b"")


def no_status_at_the_end(history: History) -> History:
    return history.cut(history.size - 1)


@pytest.mark.parametrize(
    ("alter", "kind", "proves"),
    [
        (no_entry, "entry", True),
        (second_genesis, "entry", True),
        (wrong_reflects, "entry", True),
        (outcome_too_short, "entry", True),
        (time_back, "time", True),
        (no_status_at_the_end, "checkpoint", True),
        (signed_by_a_thief, "signature", False),
        (key_by_nobody, "signature", False),
        (wrong_registry_root, "registry-root", False),
        (wrong_map_root, "status-map", False),
        (wrong_map_k, "status-map", False),
        (wrong_delta_list, "delta", False),
        (delta_beside_status, "delta", False),
        (bundle_twice, "doubled", False),
        (bundle_left_out, "sequence", False),
        (refused_for_signing_time, "outcome", False),
    ],
)
def test_an_altered_log_that_is_signed(
    alter: Alter, kind: str, proves: bool, server: Server, history: History
) -> None:
    server.history = alter(history)
    result = look(server)
    assert kind in kinds(result), result.findings[:5]
    assert proven(result) == proves, result.judgement


def test_an_entry_served_otherwise_than_it_was_hashed(
    server: Server, history: History, tmp_path: Path
) -> None:
    doctored = no_entry(history)  # an early one
    name = "tile/entries/000"
    server.history = history.serving(**{name: doctored.resource(name) or b""})
    result = look(server)
    assert kinds(result) == {"served"}
    assert not proven(result)


def test_tiles_that_are_not_those_of_the_signed_root(server: Server, history: History) -> None:
    tile = history.resource("tile/0/000") or b""
    server.history = history.serving(**{"tile/0/000": bytes(32) + tile[32:]})
    assert kinds(look(server)) == {"tile"}
    upper = history.resource(f"tile/1/000.p/{history.size // 256}") or b""
    server.history = history.serving(
        **{f"tile/1/000.p/{history.size // 256}": bytes(32) + upper[32:]}
    )
    assert kinds(look(server)) == {"tile"}


# --- what says nothing about the ledger ----------------------------------------------------------


def bad_checkpoints(history: History) -> dict[str, bytes]:
    good = history.checkpoint()
    return {
        "malformed-note": good.replace(b"\n\n", b"\n"),
        "empty": b"",
        "unsigned": good.partition(b"\n\n")[0] + b"\n\n",
        "other-key": replace(history, signer=STRANGER).checkpoint(),
        "foreign-origin": replace(history, origin="other.example").checkpoint(),
        "size-altered": good.replace(f"\n{history.size}\n".encode(), b"\n9\n"),
        "binary": b"\xff\xfe" * 400,
        "huge": b"x" * 10_000_000,
    }


@pytest.mark.parametrize(
    "name",
    [
        "malformed-note", "empty", "unsigned", "other-key", "foreign-origin", "size-altered",
        "binary", "huge",
    ],
)  # fmt: skip
def test_a_checkpoint_that_is_none(
    name: str, server: Server, history: History, tmp_path: Path
) -> None:
    sizes = status_sizes(history)
    path = seen(server, history.cut(sizes[0]), tmp_path)
    before = path.read_bytes()
    server.history = history.serving(checkpoint=bad_checkpoints(history)[name])
    code, said = run(server, path)
    assert code == 4, said
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["tile/0/000", "tile/entries/000", "delta/000"])
@pytest.mark.parametrize("damage_", ["short", "long", "empty", "huge", "gone"])
def test_resources_that_are_none(
    name: str, damage_: str, server: Server, history: History, tmp_path: Path
) -> None:
    good = history.resource(name) or b""
    bad = {"short": good[:-1], "long": good + b"x", "empty": b"", "huge": bytes(70_000_000)}
    if damage_ == "gone":
        server.history = replace(history, overrides={name: None})  # type: ignore[dict-item]
    else:
        server.history = history.serving(**{name: bad[damage_]})
    code, said = run(server, tmp_path / "state")
    assert code == 4, said
    assert not (tmp_path / "state").exists()


def test_a_slow_server_is_given_up(server: Server, history: History) -> None:
    server.pause_seconds = 0.05
    log = HttpLog(server.url, piece_seconds=1, answer_seconds=0.5)
    with pytest.raises(LedgerError, match="unreachable"):
        audit(log, TRUST, State())
    log.close()


def test_nobody_there() -> None:
    with pytest.raises(LedgerError, match="unreachable"):
        audit(HttpLog("http://127.0.0.1:1/log"), TRUST, State())
    for url in ("file:///etc/passwd", "127.0.0.1", "http://", "http://x:y/"):
        with pytest.raises(LedgerError, match="usage"):
            HttpLog(url)


# --- the commands --------------------------------------------------------------------------------


class Env:
    def __init__(self, data: Path, url: str = "") -> None:
        self.data = data
        self.trust = data / "trust.json"
        self.auditor_url = url


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    audit_commands.add_commands(parser.add_subparsers())
    return parser.parse_args(["audit", *words])


def run(server: Server, state: Path, *words: str) -> tuple[int, str]:
    """The exit code as the one command line gives it, and what is said on a refusal."""
    args = parse(
        server.url, "--vkey", str(world.CHECKPOINT.key), "--state", str(state), "--json", *words
    )
    try:
        return args.run(args, Env(state.parent)), ""
    except LedgerError as err:
        return CODES[err.code].exit, str(err)


def test_the_command_writes_what_verify_checks(
    server: Server, history: History, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "ledger.audit"
    assert run(server, state)[0] == 0
    report = json.loads(capsys.readouterr().out)
    assert report["clean"]
    assert report["tree_size"] == history.size
    before = state.read_bytes()
    server.history = other(history, history.size - 1)
    assert run(server, state)[0] == 5
    report = json.loads(capsys.readouterr().out)
    assert (report["clean"], report["proven"]) == (False, True)
    assert state.read_bytes() == before
    file = Path(report["misbehaviour"])
    assert file == tmp_path / "ledger.audit.misbehaviour.json"
    renamed = file.rename(tmp_path / "what-they-did.json")  # the contents say what it is
    args = argparse.Namespace(subject=str(renamed), json=True)
    assert verifier.check_path_and_show(args, TRUST) == 5
    assert json.loads(capsys.readouterr().out)["proven"]
    other_trust = Trust(world.ORIGIN, b"", (TrustedKey(STRANGER.key, 0, None),))
    assert verifier.check_path_and_show(args, other_trust) == 4
    server.history = history
    assert run(server, state)[0] == 0


def test_a_department_watches_its_keys(
    server: Server, history: History, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = tmp_path / "keys"
    owner, bundler = world.registry_signer("a"), world.bundle_signer("a")
    words = ("--department", "a", "--known-keys", str(known))
    known.write_text(f"{owner.key}\n{bundler.key.key_id}\n")
    assert run(server, tmp_path / "state", *words)[0] == 0
    known.write_text(f"{owner.key}\n")
    assert run(server, tmp_path / "state", *words)[0] == 1
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["clean"]
    assert bundler.key.key_id in said["strange_keys"][0]
    args = parse(server.url, "--vkey", str(world.CHECKPOINT.key), "--department", "a")
    with pytest.raises(LedgerError, match="usage"):
        args.run(args, Env(tmp_path))


# --- with event lines ----------------------------------------------------------------------------


def embedded(ledger: StoredLedger, tmp_path: Path) -> tuple[int, Path]:
    env = Env(tmp_path, ledger.url)
    ((genesis,),) = ledger.rows("SELECT sha256('\\x00' || data) FROM entry WHERE log_index = 0")
    env.trust.write_bytes(format_trust(replace(TRUST, genesis=genesis)))
    args = parse("embedded", "--json")
    return args.run(args, env), tmp_path / "audit.state.misbehaviour.json"


def test_admission_is_run_again(
    ledger: StoredLedger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.send(ledger.make(ledger.issued("1", "2", "3")))
    ledger.checkpoint()
    ledger.send(ledger.make([ledger.event("suspended", "1", reason_code="x")]))
    ledger.checkpoint()
    assert embedded(ledger, tmp_path)[0] == 0
    report = json.loads(capsys.readouterr().out)
    assert report["clean"]
    assert report["checked"]["transitions"] == 4
    ledger.send(ledger.make(ledger.issued("4")))
    ledger.checkpoint()
    assert embedded(ledger, tmp_path)[0] == 0
    row = certificate_key(world.TYPE, "a", "3")[:16].hex()
    damage(ledger.url, "UPDATE certificate SET state = state || ' ' WHERE map_key = %s", row)
    capsys.readouterr()
    assert embedded(ledger, tmp_path)[0] == 5
    assert {f["kind"] for f in json.loads(capsys.readouterr().out)["findings"]} == {"certificate"}


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("UPDATE lines SET data = substr(data, 2) WHERE log_index = %s", "lines"),
        ("UPDATE lines SET chunk = 1 WHERE log_index = %s", "lines"),
        ("DELETE FROM lines WHERE log_index = %s", "lines"),
        ("UPDATE delta SET holders = substr(holders, 2) || 'x' WHERE log_index = %s", "delta"),
        ("UPDATE lines SET signer = 5 WHERE log_index = %s", "lines"),
        ("UPDATE holder SET recent = set_byte(recent, 7, 0) WHERE %s > 0", "holder-act"),
    ],
)
def test_damaged_tables(
    statement: str,
    kind: str,
    ledger: StoredLedger,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What the process beside cannot open, and what it can, is compared as fsck does it."""
    ledger.send(ledger.make(ledger.issued("1", holder_pseudonym="1:" + "a" * 64)))
    ledger.send(ledger.make(ledger.issued("2")))
    ledger.checkpoint()
    ((index,),) = ledger.rows("SELECT min(log_index) FROM lines")
    damage(ledger.url, statement, index)
    assert embedded(ledger, tmp_path)[0] == 5
    assert kind in {f["kind"] for f in json.loads(capsys.readouterr().out)["findings"]}


def test_the_process_beside_ends() -> None:
    """An audit that loses it says so instead of passing anything over."""
    with closing(Beside("fast")) as beside:
        beside.send([(b"no entry", [])])
        assert beside.receive() == [None]
        beside._process.kill()
        beside._process.wait()
        with pytest.raises(LedgerError, match="unreachable"):
            beside.send([(b"no entry", [])])
        with pytest.raises(LedgerError, match="unreachable"):
            beside.receive()


def lenient(standing: lifecycle.Standing, t: lifecycle.Transition) -> lifecycle.Standing:
    """A life cycle in which everything is possible."""
    try:
        return _STEP(standing, t)
    except LedgerError:
        return standing._replace(state="valid", since=t.time, count=standing.count + 1)


_STEP = lifecycle.step


@pytest.mark.parametrize("rule", ["life-cycle", "authority"])
def test_an_outcome_that_the_rules_do_not_give(
    rule: str,
    ledger: StoredLedger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ledger.send(ledger.make(ledger.issued("1", "2")))
    with monkeypatch.context() as patch:  # the operator's own rules
        if rule == "authority":
            patch.setattr(Turn, "_check_authority", lambda *_: "any")
            ledger.send(ledger.make([ledger.event("suspended", "1", reason_code="x")], "b"))
        else:
            patch.setattr(lifecycle, "step", lenient)
            ledger.send(ledger.make([ledger.event("reinstated", "1")]))
    ledger.checkpoint()
    code, file = embedded(ledger, tmp_path)
    report = json.loads(capsys.readouterr().out)
    assert code == 5, report
    assert "outcome" in {f["kind"] for f in report["findings"]}
    assert report["proven"], report
    found = parse_misbehaviour(file.read_bytes())
    assert found.kind == "outcome"
    trust = parse_trust((tmp_path / "trust.json").read_bytes())
    judgement = check_misbehaviour(found, trust)
    assert judgement.proven, judgement.why
    assert not check_misbehaviour(replace(found, record=b"{}"), trust).proven
    evidence = parse_evidence(found.evidence)
    for left_out in range(len(evidence.records)):  # what is not shown proves nothing
        shown = evidence.records[:left_out] + evidence.records[left_out + 1 :]
        data = format_evidence(replace(evidence, records=shown))
        judged = check_misbehaviour(replace(found, evidence=data), trust)
        assert judged == judgement or (not judged.proven and "not shown" in judged.why), judged
