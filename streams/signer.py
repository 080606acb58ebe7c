"""`certledger signer`: the checkpoint keys in a process of their own, behind a Unix socket.

It is asked for a size and a root and makes the note itself, so it signs nothing but checkpoints of
its keys' ledger, and only what extends the largest tree that it ever signed: size and root are on
its disk before a signature leaves. Whoever takes over the sequencer, or restores an older database,
gets no signature over another history.

A request is one line of canonical JSON, and so is the answer.
"""

from __future__ import annotations

import base64
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ledger import canonical, merkle
from ledger.checkpoint import Checkpoint
from ledger.checkpoint_keys import TrustedKey
from ledger.cosignature import CosignerKey, parse_cosigner_key
from ledger.errors import CODES, LedgerError, Malformed, ProofError, Refused, Unavailable
from ledger.logs import get_log
from ledger.note import ED25519, CheckingKey, VerifierKey, parse_note, parse_vkey, split_vkey
from ledger.witnessing import Seen

from .signing import KeyRing, Prove

log = get_log(__name__)

MAX_LINE = 64 * 1024
ANSWER_SECONDS = 10.0
STATE_FORM = "certledger signer state v1"


class Guard:
    """Signs what advances the log consistently, and remembers it first."""

    def __init__(self, ring: KeyRing, state: Path, clock: Callable[[], float] = time.time) -> None:
        """`state` is its file; none means that nothing was ever signed."""
        self._ring = ring
        self._state = state
        self._clock = clock
        self._lock = threading.Lock()
        self._seen = _read_state(state)

    def answer(self, line: bytes) -> dict[str, Any]:
        """The answer to a request; LedgerError where it is refused."""
        value = canonical.parse(line, MAX_LINE)
        if value == {"op": "keys"}:
            return {"keys": [str(key) for key in self._ring.known_keys(())]}
        if value == {"op": "seen"}:
            return {"size": self._seen.size, "root": self._seen.root.hex()}
        if type(value) is not dict or value.keys() != {"op", "size", "root", "keys", "proof"}:
            raise Malformed("usage", "a request is keys, seen, or sign: size, root, keys, proof")
        size, root, keys, proof = (value[name] for name in ("size", "root", "keys", "proof"))
        if (
            value["op"] != "sign"
            or type(size) is not int
            or not 0 < size < 2**53
            or type(keys) is not list
            or type(proof) is not list
            or not all(type(item) is str for item in [root, *keys, *proof])
        ):
            raise Malformed("usage", "sign names a size from 1, a root, keys and hashes")
        found = self.sign(size, _hash(root), [_key(text) for text in keys], list(map(_hash, proof)))
        return {"note": base64.b64encode(found).decode()}

    def sign(
        self,
        size: int,
        root: bytes,
        keys: Sequence[VerifierKey | CosignerKey],
        proof: Sequence[bytes],
    ) -> bytes:
        """The signed checkpoint of `size` leaves; Refused `going-back` where it does not extend
        the largest one signed before.
        """
        if not keys or len({key.name for key in keys}) != 1:
            raise Malformed("usage", "one ledger's keys sign a checkpoint")
        checkpoint = Checkpoint(keys[0].name, size, root)
        with self._lock:
            seen = self._seen
            if size < seen.size:
                raise Refused(
                    "going-back", f"size {seen.size} was signed here, now {size} is asked for"
                )
            if seen.size == 0 and proof:
                raise Malformed("usage", "from nothing there is nothing to prove")
            if seen.size:
                try:
                    merkle.check_consistency(seen.size, size, proof, seen.root, root)
                except ProofError as err:
                    raise Refused(
                        "going-back",
                        f"size {size} does not extend what was signed here at {seen.size}: "
                        f"{err.message}",
                    ) from err
            # The keys are looked for first: who cannot sign must not move on.
            note = self._ring.sign(checkpoint.text(), keys, int(self._clock()))
            if (size, root) != (seen.size, seen.root):
                _write_state(self._state, Seen(size, root))
                # A crash here leaves a size without a signature: the same is asked for again.
                self._seen = Seen(size, root)
            return note


def _hash(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != 32 or raw.hex() != text:
        raise Malformed("usage", "a hash is 64 hex digits")
    return raw


def _key(text: str) -> VerifierKey | CosignerKey:
    return parse_vkey(text) if split_vkey(text)[1] == ED25519 else parse_cosigner_key(text)


def _read_state(path: Path) -> Seen:
    if not path.exists():
        return Seen()
    value = canonical.parse(path.read_bytes(), 1024)
    if (
        type(value) is not dict
        or value.keys() != {"format", "size", "root"}
        or value["format"] != STATE_FORM
        or type(value["size"]) is not int
        or type(value["root"]) is not str
    ):
        raise ProofError("stored-bytes-damaged", f"{path} is no state of a signer")
    return Seen(value["size"], _hash(value["root"]))


def _write_state(path: Path, seen: Seen) -> None:
    value = {"format": STATE_FORM, "size": seen.size, "root": seen.root.hex()}
    draft = path.with_name(path.name + ".new")
    with draft.open("wb") as file:
        file.write(canonical.format(value))
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def serve(guard: Guard, place: Path, stop: threading.Event) -> None:
    """Answer at a Unix socket until `stop`; its mode lets the owner and the group ask."""
    draft = place.with_name(f"{place.name}.new")
    draft.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        before = os.umask(0o117)
        try:
            listening.bind(str(draft))
        finally:
            os.umask(before)
        listening.listen(4)
        draft.rename(place)  # whoever finds it there is heard
        listening.settimeout(0.2)
        log.info("signing", socket=place)
        while not stop.is_set():
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                continue
            with connection:
                _talk(guard, connection)
    place.unlink(missing_ok=True)


def _talk(guard: Guard, connection: socket.socket) -> None:
    connection.settimeout(ANSWER_SECONDS)
    try:
        line = _read_line(connection)
        try:
            answer = guard.answer(line)
        except LedgerError as err:
            log.log(logging.getLevelName(CODES[err.code].level), "refused: %s", err)
            answer = {"error": err.code, "message": err.message}
        connection.sendall(canonical.format(answer) + b"\n")
    except OSError as err:
        log.warning("client-gone", error=err)


def _read_line(connection: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n") and len(data) <= MAX_LINE:
        piece = connection.recv(16 * 1024)
        if not piece:
            break
        data += piece
    return data.removesuffix(b"\n")


class RemoteRing:
    """The same as `signing.KeyRing` to a sequencer, over the socket of a signer."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def known_keys(self, registered: Iterable[TrustedKey]) -> list[CheckingKey]:
        """Every key that may have signed a checkpoint: the registry's and the signer's."""
        found: dict[str, CheckingKey] = {str(k.key): k.key for k in registered}
        found.update({text: _key(text) for text in self._ask({"op": "keys"})["keys"]})
        return list(found.values())

    def sign_checkpoint(
        self, checkpoint: Checkpoint, keys: Iterable[VerifierKey | CosignerKey], prove: Prove
    ) -> bytes:
        """The note of a checkpoint; what the signer refuses is raised here with its code."""
        old = int(self._ask({"op": "seen"})["size"])
        # Of a smaller tree nothing is to be proven: the signer says no.
        proof = prove(old) if 0 < old <= checkpoint.size else []
        answer = self._ask(
            {
                "op": "sign",
                "size": checkpoint.size,
                "root": checkpoint.root.hex(),
                "keys": [str(key) for key in keys],
                "proof": [value.hex() for value in proof],
            }
        )
        note = base64.b64decode(answer["note"])
        if parse_note(note).text != checkpoint.text():
            raise ProofError("stored-bytes-damaged", "the signer signed something else")
        return note

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(ANSWER_SECONDS)
                connection.connect(str(self._place))
                connection.sendall(canonical.format(request) + b"\n")
                line = _read_line(connection)
        except OSError as err:
            raise Unavailable("unreachable", f"the signer at {self._place}: {err}") from err
        value = canonical.parse(line, MAX_LINE)
        if type(value) is not dict:
            raise Unavailable("unreachable", f"the signer at {self._place} answers nonsense")
        if "error" in value:
            code = value["error"] if value["error"] in CODES else "unreachable"
            raise CODES[code].error(code, f"the signer: {value.get('message')}")
        return value
