"""`make fuzz`: atheris drives every parser that meets bytes from outside, for SECONDS.

An input is one byte, which chooses the parser, and what that parser gets. Whatever it is, it gives
a value or a LedgerError; what makes another error is kept in .fuzz/ (`python -m tests.fuzz FILE`).
"""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from consumers.http import assessing, batch, questions, tile_paths
from consumers.http.page import endpoint
from ledger import (
    canonical,
    catalogue,
    demand_evidence,
    evidence,
    holder_evidence,
    loss,
    records,
    sheet,
    statuslist,
)
from ledger.errors import LedgerError
from tests.property.test_parsers import PARSERS as FORMS
from tests.vectors.generate_formats import make_examples
from tests.world import signer

FOLDER = Path(".fuzz")
MAX_BYTES = 64 * 1024
_KEY = signer(statuslist.key_name("ledger.example/certificates")).key


def _text(parse: Callable[[str], Any]) -> Callable[[bytes], Any]:
    return lambda data: parse(data.decode(errors="surrogateescape"))


_EXAMPLES = make_examples()


def _example(name: str, line: int = 0) -> bytes:
    return _EXAMPLES[name].splitlines()[line].encode()


# name: (parser, a good input or one near it)
PARSERS: dict[str, tuple[Callable[[bytes], Any], bytes]] = {
    **FORMS,
    "evidence": (evidence.parse_evidence, _EXAMPLES["evidence"].encode()),
    "holder evidence": (
        holder_evidence.parse_holder_evidence,
        _EXAMPLES["holder-evidence"].encode(),
    ),
    "demand evidence": (demand_evidence.parse_demand_evidence, _EXAMPLES["evidence"].encode()),
    "catalogue": (catalogue.parse_catalogue, _EXAMPLES["catalogue"].encode()),
    "registry record": (records.parse_record, _example("registry-records")),
    "loss": (lambda data: _loss(canonical.parse(data, MAX_BYTES)), _example("losses")),
    "sheet": (_text(sheet.parse_sheet), _example("sheet", -1).partition(b": ")[2]),
    "status list": (lambda d: statuslist.parse_jwt(d, _KEY), _example("status-list")),
    "status CWT": (lambda d: statuslist.parse_cwt(d, _KEY), _EXAMPLES["status-cwt"].encode()),
    "credential": (
        lambda d: statuslist.parse_credential(d, "revocation", "ledger.example", _KEY),
        _example("status-list", -1),
    ),
    "tile path": (tile_paths.tile_path, b"/tile/0/x001/234.p/17"),
    "question": (questions.parse_query, b"number=%E6%B9%98A-1&at=2026-01-01"),
    "question on the page": (endpoint.parse_query, b"number=%E6%B9%98A-1&lang=zh"),
    "line of a batch": (lambda d: batch.parse_line(0, d), b'{"number":"A-1","at":"2026-01-01"}'),
    "assessment": (assessing.parse_body, b'{"service":"s","holder":"1:00"}'),
}
NAMES = sorted(PARSERS)


def _loss(value: Any) -> None:
    if type(value) is dict:
        loss.parse_loss(value)


def one_input(data: bytes) -> None:
    """Give an input to the parser that its first byte chooses."""
    if data:
        parse, _ = PARSERS[NAMES[data[0] % len(NAMES)]]
        with contextlib.suppress(LedgerError):
            parse(data[1:])


def seeds() -> Iterator[bytes]:
    """The good input of each parser."""
    for number, name in enumerate(NAMES):
        yield bytes([number]) + PARSERS[name][1]


def mutated(seed: int, count: int) -> Iterator[bytes]:
    """Inputs made of good ones by some changes, the same for the same seed."""
    rng = random.Random(seed)
    good = list(seeds())
    for _ in range(count):
        data = bytearray(rng.choice(good))
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(1, len(data) + 1)
            cut = rng.choice((0, 1, 2, len(data)))
            data[at : at + cut] = rng.choice(
                (rng.randbytes(3), b'"', b"\x00", b"9" * 20, b"[", b"")
            )
        yield bytes(data)


def main() -> None:
    """Fuzz for SECONDS, or run the inputs in files again."""
    if not sys.argv[1].isdigit():
        for path in sys.argv[1:]:
            one_input(Path(path).read_bytes())
        return
    import atheris  # type: ignore[import-not-found, unused-ignore]

    atheris.instrument_all()
    corpus = FOLDER / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds()):
        (corpus / f"good-{number}").write_bytes(data)
    options = [
        f"-max_total_time={sys.argv[1]}",
        f"-max_len={MAX_BYTES}",
        f"-artifact_prefix={FOLDER}/",
        "-timeout=20",
        "-rss_limit_mb=1024",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
