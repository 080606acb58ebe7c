"""An Ed25519 key that never leaves its token: a smart card, an HSM, SoftHSM, by PKCS #11.

Needs the optional package python-pkcs11 (`pip install python-pkcs11`).
"""

from __future__ import annotations

import importlib
import threading
from pathlib import Path
from typing import Any

from ledger.errors import Unavailable
from ledger.note import VerifierKey

_DER_OCTETS = b"\x04\x20"  # an OCTET STRING of 32 bytes: how PKCS #11 wraps an Edwards point


class TokenSigner:
    """A `ledger.note.Signer` whose private key is in a token."""

    def __init__(self, module: Path, token: str, label: str, pin: str, name: str) -> None:
        """The key pair `label` in the token `token`, reached through the library `module`; notes
        are signed under `name`. Unavailable `key-missing` without any of them.
        """
        try:
            library = importlib.import_module("pkcs11")
        except ImportError as err:
            raise Unavailable("key-missing", "PKCS #11 needs the package python-pkcs11") from err
        kinds, point = library.ObjectClass, library.Attribute.EC_POINT
        session: Any = None
        try:
            session = library.lib(str(module)).get_token(token_label=token).open(user_pin=pin)
            public = session.get_key(object_class=kinds.PUBLIC_KEY, label=label)
            self._private: Any = session.get_key(object_class=kinds.PRIVATE_KEY, label=label)
            raw = bytes(public[point])
        except (library.PKCS11Error, OSError, RuntimeError) as err:
            if session is not None:
                session.close()
            raise Unavailable(
                "key-missing",
                f"the key {label!r} of the token {token!r} by {module}: {type(err).__name__} {err}",
            ) from err
        self._session: Any = session
        self._mechanism = library.Mechanism.EDDSA
        self._lock = threading.Lock()
        self.key = VerifierKey(name, raw.removeprefix(_DER_OCTETS) if len(raw) == 34 else raw)

    def sign(self, text: bytes) -> bytes:
        """The raw signature (64 bytes) over `text`."""
        with self._lock:  # a session does one thing at a time
            return bytes(self._private.sign(text, mechanism=self._mechanism))

    def close(self) -> None:
        """End the session."""
        self._session.close()
