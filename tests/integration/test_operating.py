"""What the operator sees over a real server; Prometheus' own tool tries the alert rules."""

from __future__ import annotations

import json
import re
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from consumers.http.page.rendering import CONTENT_SECURITY_POLICY
from consumers.http.settings import Settings, SettingsError
from ledger import times
from tests import outside
from tests.http_serving import ROOT, Served, serving
from tests.stored_ledger import StoredLedger, reset

DASHBOARD = ROOT / "deploy" / "grafana" / "certledger.json"
RULES = ROOT / "deploy" / "prometheus" / "certledger.rules.yml"
REFUSED = "act-not-authorised"
TOKEN = "t" * 40
Samples = dict[tuple[str, str], float]


@pytest.fixture(scope="module")
def made(module_database_url: str) -> Iterator[StoredLedger]:
    """A ledger with a refused event, a dead letter, witnesses, a department that never spoke."""
    reset(module_database_url)
    ledger = StoredLedger(module_database_url)
    ledger.registrar.add_department("quiet")
    foreign = ledger.event("issued", "of another", issuer="b")
    lines = [*ledger.issued("one", "two", "three"), foreign]
    assert ledger.send(ledger.make(lines)) == {"logged": 1}
    assert ledger.send(b"personal: Zhang San") == {"dead-letter": 1}
    ledger.checkpoint()
    ledger.sequencing.write_witnesses(
        [("north", 7, 1_700_000_000, None), ("south", None, None, "?")]
    )
    try:
        yield ledger
        ledger.check()
    finally:
        ledger.close()


@pytest.fixture(scope="module")
def served(made: StoredLedger, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    data = str(tmp_path_factory.mktemp("data"))
    with serving(made.url, CERTLEDGER_DATA=data, CERTLEDGER_HTTP_RATE="0") as running:
        yield running


def samples(text: str) -> Samples:
    """Values by name and the label's value, empty where there is none."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            (label,) = sample.labels.values() or [""]
            found[sample.name, label] = sample.value
    return found


def test_metrics_say_what_the_ledger_holds(served: Served, made: StoredLedger) -> None:
    text = served.get("/metrics").decode()
    found = {
        (name.removeprefix("certledger_"), label): value
        for (name, label), value in samples(text).items()
    }
    ((size, published_at),) = made.rows("SELECT size, published_at FROM checkpoint")
    for name, value in {
        "database_up": 1,
        "events_total": 4,
        "events_admitted_total": 3,
        "certificates": 3,
        "dead_letters_total": 1,
        "log_entries": size,
        "checkpoint_entries": size,
        "published_entries": size,
        "published_timestamp_seconds": published_at / times.SECOND,
    }.items():
        assert found[name, ""] == value, name
    assert found["events_refused_total", REFUSED] == 1
    assert found["records_not_logged_total", "dead-letter"] == 1
    assert found["relay_behind", "receipts"] == size
    assert found["relay_behind", "outbox"] == 1
    assert found["witness_up", "north"] == 1
    assert found["witness_entries", "north"] == 7
    assert found["witness_up", "south"] == 0
    assert ("witness_entries", "south") not in found
    assert found["program_sessions", "relay"] == 0
    assert 0 < found["data_free_bytes", ""] <= found["data_size_bytes", ""]
    signed = found["department_signed_timestamp_seconds", "a"]
    assert abs(signed - published_at / times.SECOND) < 600
    assert ("department_signed_timestamp_seconds", "quiet") not in found
    assert "Zhang" not in text


def test_metrics_are_there_without_postgresql(tmp_path: Path) -> None:
    with serving("postgresql://127.0.0.1:1/x", CERTLEDGER_DATA=str(tmp_path)) as running:
        found = samples(running.get("/metrics").decode())
    assert found["certledger_database_up", ""] == 0
    assert found["certledger_data_free_bytes", ""] > 0


def test_page_names_codes_and_places_and_no_values(served: Served, made: StoredLedger) -> None:
    ((index,),) = made.rows("SELECT log_index FROM lines")
    pages = {name: served.get(f"/operator?lang={name}").decode() for name in ("en", "zh")}
    assert f"entry {index}, position 3 (a/0)" in pages["en"]
    assert "things need attention" in pages["en"]
    assert f"日志条目{index}，位置3（a/0）" in pages["zh"]
    for page in pages.values():
        for code in (REFUSED, "dead-letter", "malformed-record", "north", "0/1"):
            assert code in page, code
        for value in ("Zhang", "of another", "personal", "one</"):
            assert value not in page, value
        assert "<script" not in page
    policy = served.ask("/operator").headers["content-security-policy"]
    assert policy == CONTENT_SECURITY_POLICY


def test_page_says_that_the_database_is_away() -> None:
    with serving("postgresql://127.0.0.1:1/x") as running:
        answer = running.ask("/operator?lang=en")
    assert answer.status == 503
    assert "PostgreSQL does not answer" in answer.body.decode()


@pytest.mark.parametrize("path", ["/metrics", "/operator"])
def test_without_a_token_only_this_machine_sees_it(served: Served, path: str) -> None:
    assert served.ask(path, Host=f"localhost:{served.port}").status == 200
    for headers in (
        {"Host": "ledger.example"},
        {"X_Forwarded_For": "203.0.113.7"},
        {"Forwarded": "for=203.0.113.7"},
        {"Via": "1.1 proxy"},
    ):
        answer = served.ask(path, **headers)
        assert answer.status == 403, headers
        assert b"not-authorised" not in answer.body


@pytest.mark.parametrize("path", ["/metrics", "/operator"])
def test_with_a_token_nobody_sees_it_without(made: StoredLedger, tmp_path: Path, path: str) -> None:
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text(TOKEN + "\n")
    basic = b64encode(f"operator:{TOKEN}".encode()).decode()
    with serving(made.url, CERTLEDGER_OPERATOR_TOKEN_FILE=str(file)) as running:
        for right in (f"Bearer {TOKEN}", f"Basic {basic}"):
            assert running.ask(path, Host="ledger.example", Authorization=right).status == 200
        for wrong in ("", "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Basic !"):
            answer = running.ask(path, Authorization=wrong)
            assert answer.status == 401, wrong
            assert answer.headers["www-authenticate"].startswith("Basic ")


def test_rules_fire_when_they_should_and_not_before() -> None:
    promtool = outside.promtool()
    for what in ("check", "test"):
        name = RULES if what == "check" else RULES.with_name("certledger.rules.test.yml")
        done = subprocess.run(
            [promtool, what, "rules", name], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
    tested = RULES.with_name("certledger.rules.test.yml").read_text()
    assert len(alerts) == len(set(alerts)) == 16
    for alert in alerts:
        assert f'ALERTS{{alertname="{alert}", alertstate="firing"}}' in tested


@pytest.mark.parametrize(
    ("mode", "token", "why"),
    [
        (0o640, TOKEN, "others may read it"),
        (0o600, "short", "32 to 256"),
        (0o600, f"{TOKEN}\n{TOKEN}", "one line"),
        (0o600, f"{TOKEN} é", "ASCII"),
    ],
)
def test_a_token_that_is_none_stops_the_server(
    tmp_path: Path, mode: int, token: str, why: str
) -> None:
    file = tmp_path / "token"
    file.write_text(token)
    file.chmod(mode)
    environ = {"CERTLEDGER_POSTGRES": "x", "CERTLEDGER_OPERATOR_TOKEN_FILE": str(file)}
    with pytest.raises(SettingsError, match=why) as caught:
        Settings.from_environment(environ)
    assert token not in str(caught.value)
    missing = {**environ, "CERTLEDGER_OPERATOR_TOKEN_FILE": str(tmp_path / "none")}
    with pytest.raises(SettingsError, match="No such file"):
        Settings.from_environment(missing)


def labels_text(labels: dict[str, str]) -> str:
    return ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items())


def test_rules_fire_over_what_the_server_says(served: Served, tmp_path: Path) -> None:
    """The metrics as they are now, unchanged for a day: no program runs, a witness is away."""
    series = [
        {
            "series": f"{sample.name}{{{labels_text(sample.labels)}}}",
            "values": f"{sample.value!r}x1500",
        }
        for family in text_string_to_metric_families(served.get("/metrics").decode())
        for sample in family.samples
    ]
    soon = {"CertledgerProgramDown": 4}
    later = {"CertledgerWitnessMissing": 1, "CertledgerCheckpointTooOld": 1}
    last = {"CertledgerDepartmentSilent": 1}
    fires = 'count by (alertname) (ALERTS{alertstate="firing", alertname!~".*Disk.*"})'
    tests = {
        "rule_files": [str(RULES)],
        "tests": [
            {
                "interval": "1m",
                "start_timestamp": str(int(time.time())),
                "input_series": series,
                "promql_expr_test": [
                    {
                        "expr": fires,
                        "eval_time": f"{minutes}m",
                        "exp_samples": [
                            {"labels": f'{{alertname="{name}"}}', "value": count}
                            for name, count in expected.items()
                        ],
                    }
                    for minutes, expected in (
                        (4, soon),
                        (20, soon | later),
                        (1480, soon | later | last),
                    )
                ],
            }
        ],
    }
    path = tmp_path / "tests.json"  # JSON is YAML
    path.write_text(json.dumps(tests))
    done = subprocess.run(
        [outside.promtool(), "test", "rules", path], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_example_scrape_is_good() -> None:
    config = RULES.with_name("prometheus.yml")
    done = subprocess.run(
        [outside.promtool(), "check", "config", config], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboards_panels_ask_what_prometheus_understands(tmp_path: Path) -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 10
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        own = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not own & cells, panel["title"]
        assert max(x for x, _ in own) < 24
        cells |= own
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    rules = [
        {"record": f"query:{n}", "expr": query.replace("$__rate_interval", "1m")}
        for n, query in enumerate(queries)
    ]
    path = tmp_path / "queries.json"  # JSON is YAML
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(
        [outside.promtool(), "check", "rules", path], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(queries)} rules found" in done.stdout
