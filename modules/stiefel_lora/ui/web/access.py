"""Rules of who may use the server: hosts, origins and the token."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import ipaddress
import os
import re
import secrets
from collections.abc import Iterable
from urllib.parse import urlsplit

from ..._exceptions import ConfigError

__all__ = ["TOKEN_VARIABLE", "Access", "access_for", "is_loopback"]

TOKEN_VARIABLE = "STIEFEL_LORA_WEB_TOKEN"
"""Environment variable with the token."""

_FEWEST_CHARACTERS = 16
_LOOPBACK_NAMES = ("localhost",)
# Name or address, and port.
_HOST = re.compile(r"(?:[\w.-]+|\[[\da-fA-F:.]+\])(?::\d{1,5})?", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Access:
    """Rules of access to a server.

    Attributes:
        host: address on which the server listens.
        names: other host names under which a proxy serves it, in lower case.
        token: token that every request must have, or None.
        cookie: name of the cookie with the token. Browsers share cookies between the
            ports of a host, so it contains the port.
    """

    host: str
    names: frozenset[str] = frozenset()
    token: str | None = None
    cookie: str = "stiefel_lora"

    def accepts_host(self, header: str) -> bool:
        """Return whether a request was sent to this server by its own name.

        A web page of another site can point its own name to this address (DNS
        rebinding), but cannot choose the name in the request.
        """
        name = _host_name(header)
        if name is None:
            return False
        if name in self.names or name == self.host.lower():
            return True
        address = _address(name)
        if is_loopback(self.host):
            return name in _LOOPBACK_NAMES or (
                address is not None and is_loopback(name)
            )
        # A name that is an address cannot be pointed elsewhere.
        return address is not None or name in _LOOPBACK_NAMES

    def accepts_origin(self, origin: str, host: str) -> bool:
        """Return whether a request comes from a page of this server.

        Args:
            origin: header Origin.
            host: header Host.
        """
        try:
            parts = urlsplit(origin)
            name = parts.hostname
        except ValueError:
            return False
        if parts.scheme not in ("http", "https") or name is None:
            return False
        if parts.netloc.lower() == host.lower():
            return True
        return name in self.names

    def accepts_token(self, given: str) -> bool:
        """Return whether a token is right, in constant time."""
        if self.token is None:
            return True
        return hmac.compare_digest(_digest(given), _digest(self.token))

    @property
    def cookie_value(self) -> str:
        """Value of the cookie, from which the token cannot be computed."""
        key = (self.token or "").encode("utf-8", "surrogatepass")
        return hmac.new(key, b"stiefel-lora cookie", hashlib.sha256).hexdigest()

    def accepts_cookie(self, given: str) -> bool:
        """Return whether the value of a cookie is right, in constant time."""
        return hmac.compare_digest(_digest(given), _digest(self.cookie_value))


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    address = _address(host)
    if address is None:
        return host.lower() in _LOOPBACK_NAMES
    return address.is_loopback


def access_for(host: str, port: int, names: Iterable[str] = ()) -> tuple[Access, bool]:
    """Return the rules for an address, and whether their token is a new one.

    A token is required unless only this machine can reach the server. A proxy, whose
    name is in ``names``, makes a loopback address reachable.

    Raises:
        ConfigError: If the token in the environment is too short, or a name is not a
            host name.
    """
    known = frozenset(_checked_name(name) for name in names)
    token = os.environ.get(TOKEN_VARIABLE) or None
    if token is not None and len(token) < _FEWEST_CHARACTERS:
        raise ConfigError(
            f"{TOKEN_VARIABLE}: the token must have at least {_FEWEST_CHARACTERS} "
            f"characters, but has {len(token)}. Use a longer one, or unset it to get "
            "a random one."
        )
    is_new = token is None and (bool(known) or not is_loopback(host))
    if is_new:
        token = secrets.token_urlsafe(32)
    return Access(host, known, token, f"stiefel_lora_{port}"), is_new


def _checked_name(name: str) -> str:
    found = _host_name(name)
    if found is None or found != name.lower().strip("[]"):
        raise ConfigError(
            f"--allowed-host: must be a host name without scheme and port, but got "
            f"{name!r}. Use for example --allowed-host lora.example.org"
        )
    return found


def _host_name(header: str) -> str | None:
    """Return the name in a header Host, without port, or None if it is invalid."""
    if not _HOST.fullmatch(header):
        return None
    try:
        parts = urlsplit(f"//{header}")
        _ = parts.port
    except ValueError:
        return None
    return parts.hostname


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _digest(text: str) -> bytes:
    # Equal lengths: comparing bytes of different lengths would take different times.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
