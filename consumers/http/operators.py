"""Who may see what is the operator's: callers on this machine, or whoever has the token."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from .problems import problem

# Whoever forwards for others says so by one of these.
_FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


class Operators:
    """With a token, everybody needs it. Without one, a request counts as this machine's own when
    its connection comes from the loopback address, it names that as its host (so no page of
    another name leads a browser here), and nobody says that it was forwarded.
    """

    def __init__(self, token: bytes | None) -> None:
        self._token = token

    def refusal(self, request: Request) -> Response | None:
        """The answer to a caller who may not see it, None for others."""
        if self._token is None:
            return None if _is_own(request) else problem(403, "only on the server's own machine")
        given = _given(request.headers.get("authorization", ""))
        if given is not None and hmac.compare_digest(given, self._token):
            return None
        offered = {"WWW-Authenticate": 'Basic realm="operator", charset="UTF-8"'}
        return problem(401, "the operator's token is needed", offered)


def _is_own(request: Request) -> bool:
    if request.client is None or not _is_loopback(request.client.host):
        return False
    if any(name in request.headers for name in _FORWARDED):
        return False
    hosts = request.headers.getlist("host")
    try:
        host = urlsplit(f"//{hosts[0]}").hostname or "" if len(hosts) == 1 else ""
    except ValueError:
        return False
    return host == "localhost" or _is_loopback(host)


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _given(authorization: str) -> bytes | None:
    """The token of a Bearer header, or the password of a Basic one, whoever's it is said to be."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode()
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return None
