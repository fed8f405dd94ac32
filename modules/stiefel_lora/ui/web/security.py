"""Guard in front of all pages, websockets, files and uploads.

Every request passes :class:`Guard` before anything else sees it. A request that is
refused gets a status and a message. See docs/web.md for the threats.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, unquote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .access import Access
from .sign_in import sign_in_page

__all__ = ["Guard", "Refusal", "whole_number"]

_METHODS = ("GET", "HEAD", "POST", "PUT")
# Routes with uploads of any size, and descriptions of the interface that load scripts
# from other servers.
_CLOSED = re.compile(r"/_nicegui/client/|/(docs|redoc|openapi\.json)(/|$)")
_UPLOADS = "/uploads/"
_SIGN_IN = "/sign-in"
# Bytes of the body of a request other than an upload.
_MOST_BYTES = 1 << 20
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; "
    "base-uri 'self'; form-action 'self'; object-src 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    # The address of the first page can contain the token. Without any referrer, the
    # form for the token would have no origin.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
Headers = Iterable[tuple[bytes, bytes]]


class Refusal(Exception):
    """Request that is refused.

    Args:
        status: HTTP status.
        message: message for the user.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Guard:
    """ASGI application that passes on the requests that are allowed.

    Args:
        app: application behind the guard.
        access: rules of access.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app = app
        self.access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request and pass it on, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] not in ("http", "websocket"):
            return
        try:
            cookie = self._check(scope)
            if cookie == _SIGN_IN:
                await self._sign_in(scope, receive, send)
                return
        except Refusal as refusal:
            await _refuse(scope, send, refusal)
            return
        answer = _Answer(send, self._cookie_header(scope) if cookie else ())
        if scope["type"] == "http" and not scope["path"].startswith(_UPLOADS):
            receive = _bounded(receive)
        try:
            await self.app(scope, receive, answer)
        except Refusal as refusal:
            if answer.started:
                raise
            await _refuse(scope, send, refusal)

    def _check(self, scope: Scope) -> str:
        """Check a request. Return whether to set the cookie, or the path to sign in.

        Raises:
            Refusal: If the request is not allowed.
        """
        headers = _Headers(scope["headers"])
        host = headers.only("host")
        if host is None or not self.access.accepts_host(host):
            raise Refusal(
                403,
                f"The host name {host or ''!a} is not allowed. Start the server with "
                "--allowed-host and this name if it is that of your proxy.",
            )
        _check_path(scope)
        self._check_origin(scope, headers, host)
        method = scope.get("method", "GET")
        if method not in _METHODS:
            raise Refusal(405, f"The method {method[:20]!a} is not supported.")
        uploads = scope["path"].startswith(_UPLOADS)
        if method == "PUT" and not uploads:
            raise Refusal(405, "Files can only be sent to /uploads/.")
        if not uploads:
            _check_length(headers)
        if scope["path"] == _SIGN_IN and self.access.token is not None:
            return _SIGN_IN
        return self._check_token(scope, headers)

    def _check_origin(self, scope: Scope, headers: _Headers, host: str) -> None:
        origins = headers.all("origin")
        if any(not self.access.accepts_origin(origin, host) for origin in origins):
            raise Refusal(
                403,
                "This request comes from a page of another site. Open the page "
                "of this server itself.",
            )
        # An image, script or frame in a page of another site has no origin.
        site = headers.only("sec-fetch-site")
        opened = (
            scope["type"] == "http"
            and scope["method"] == "GET"
            and headers.only("sec-fetch-mode") == "navigate"
            and headers.only("sec-fetch-dest") == "document"
        )
        if site in ("cross-site", "same-site") and not opened:
            raise Refusal(
                403,
                "This request comes from a page of another site. Open the page "
                "of this server itself.",
            )

    def _check_token(self, scope: Scope, headers: _Headers) -> str:
        access = self.access
        if access.token is None:
            return ""
        if any(access.accepts_cookie(text) for text in headers.cookies(access.cookie)):
            return ""
        kind, _, given = (headers.only("authorization") or "").partition(" ")
        if kind.lower() == "bearer" and access.accepts_token(given.strip()):
            return ""
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        if any(access.accepts_token(text) for text in query.get("token", ())):
            return "set"
        raise Refusal(
            401,
            "A token is required. Use the address that the server printed when "
            "it was started, or enter its token.",
        )

    def _cookie_header(self, scope: Scope) -> Headers:
        secure = "; Secure" if scope.get("scheme") in ("https", "wss") else ""
        value = (
            f"{self.access.cookie}={self.access.cookie_value}; Path=/; HttpOnly; "
            f"SameSite=Strict; Max-Age=2592000{secure}"
        )
        return [(b"set-cookie", value.encode())]

    async def _sign_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the token of the form, set the cookie and show the first page."""
        if scope["type"] != "http" or scope["method"] != "POST":
            raise Refusal(405, "The token is sent with the form of the first page.")
        body, receive = b"", _bounded(receive)
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        given = parse_qs(body.decode("latin-1")).get("token", [""])[0].strip()
        if not self.access.accepts_token(given):
            raise Refusal(401, "This is not the token of the server.")
        headers = [(b"location", b"/"), *self._cookie_header(scope), *_HEADERS]
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


class _Headers:
    """Headers of a request."""

    def __init__(self, raw: Headers) -> None:
        self._raw = [(name.lower(), value.decode("latin-1")) for name, value in raw]

    def all(self, name: str) -> list[str]:
        """Return all values of a header."""
        return [value for key, value in self._raw if key == name.encode()]

    def only(self, name: str) -> str | None:
        """Return the value of a header, or None if it is missing or given twice."""
        found = self.all(name)
        return found[0] if len(found) == 1 else None

    def cookies(self, name: str) -> list[str]:
        """Return the values of a cookie."""
        found = []
        for text in self.all("cookie"):
            # One by one: an invalid cookie of another program would hide the others.
            for part in text.split(";"):
                try:
                    jar = SimpleCookie(part.strip())
                except CookieError:
                    continue
                found += [jar[name].value] if name in jar else []
        return found


class _Answer:
    """Callable that sends a response with the headers of the guard."""

    def __init__(self, send: Send, more: Headers) -> None:
        self._send, self._more = send, more
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            message = {
                **message,
                "headers": [*message.get("headers", ()), *_HEADERS, *self._more],
            }
        await self._send(message)


def _check_path(scope: Scope) -> None:
    """Check for paths that mean another file to one program than to another.

    Raises:
        Refusal: If the path is relative, or contains a part that is not a name.
    """
    path = scope["path"]
    raw = scope.get("raw_path", b"").decode("latin-1").lower()
    # Decoded once by the server: what still changes was encoded twice.
    twice = unquote(path)
    wrong = (
        not path.startswith("/")
        or path.startswith("//")
        or any(sign in text for text in (path, twice) for sign in "\\\0")
        or any(
            part in (".", "..") for text in (path, twice) for part in text.split("/")
        )
        or any(code in raw for code in ("%2f", "%5c", "%00"))
        or _CONTROL.search(twice)
    )
    if wrong:
        raise Refusal(400, "This path is not allowed.")
    if _CLOSED.match(path):
        raise Refusal(403, "This part of the interface is not available.")


def whole_number(text: str, digits: int) -> int | None:
    """Return a number of a request, or None if it is not one with so few digits.

    int() accepts digits of other scripts, and fails for thousands of digits.
    """
    if not text.isascii() or not text.isdigit() or len(text) > digits:
        return None
    return int(text)


def _check_length(headers: _Headers) -> None:
    length = headers.only("content-length")
    if length is None:
        return
    size = whole_number(length, 9)
    if size is None or size > _MOST_BYTES:
        raise _too_long()


def _too_long() -> Refusal:
    return Refusal(413, f"A request may have at most {_MOST_BYTES >> 20} MB.")


def _bounded(receive: Receive) -> Receive:
    """Return a function that receives a body of limited size.

    Raises:
        Refusal: When more has been received.
    """
    count = 0

    async def bounded() -> Message:
        nonlocal count
        message = await receive()
        count += len(message.get("body", b""))
        if count > _MOST_BYTES:
            raise _too_long()
        return message

    return bounded


async def _refuse(scope: Scope, send: Send, refusal: Refusal) -> None:
    """Answer with a status and a message, as a page if a browser opens one."""
    headers = _Headers(scope["headers"])
    is_page = "text/html" in (headers.only("accept") or "")
    if scope["type"] == "http" and is_page:
        show_form = refusal.status == 401
        body = sign_in_page(html.escape(refusal.message), form=show_form).encode()
        kind = b"text/html; charset=utf-8"
    else:
        body = json.dumps({"message": refusal.message}).encode()
        kind = b"application/json"
    start = {
        "status": refusal.status,
        "headers": [
            (b"content-type", kind),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            # The rest of a body that was not read must not be taken for a request.
            (b"connection", b"close"),
            *_HEADERS,
        ],
    }
    prefix = "http.response"
    if scope["type"] == "websocket":
        prefix = "websocket.http.response"
        if prefix not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008})
            return
    await send({"type": f"{prefix}.start", **start})
    await send({"type": f"{prefix}.body", "body": body})
