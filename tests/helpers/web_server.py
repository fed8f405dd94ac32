"""The server of the browser interface as a process, and raw requests to it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import stiefel_lora

MODULES = Path(stiefel_lora.__file__).parents[1]
# Machines differ, and some are busy.
_START_SECONDS = 120.0


class Reply(NamedTuple):
    """Answer to a request."""

    status: int
    headers: str
    body: bytes

    @property
    def message(self) -> str:
        return json.loads(self.body)["message"]


class WebServer:
    """Process of ``stiefel-lora web`` with a home, a queue and a working folder."""

    def __init__(self, folder: Path, *arguments: str, token: str = "") -> None:
        self.folder = folder
        self.home = folder / "home"
        self.work = folder / "work"
        self.work.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.token = token
        self.arguments = arguments
        self.process: subprocess.Popen[bytes] | None = None
        self.log_path = folder / "server.log"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def log(self) -> str:
        return self.log_path.read_text("utf-8")

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if "STIEFEL_LORA" not in k}
        return {
            **kept,
            "PYTHONPATH": str(MODULES),
            "STIEFEL_LORA_UI": str(self.home),
            "STIEFEL_LORA_QUEUE": str(self.home / "queue"),
            "STIEFEL_LORA_WEB_TOKEN": self.token,
        }

    def command(self) -> list[str]:
        start = [sys.executable, "-m", "stiefel_lora", "web"]
        return [*start, "--port", str(self.port), *self.arguments]

    def spawn(self) -> subprocess.Popen[bytes]:
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                self.command(),
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.work,
                env=self.environment(),
            )

    def start(self) -> WebServer:
        """Start the process and wait until it accepts requests."""
        self.process = self.spawn()
        until = time.monotonic() + _START_SECONDS
        known = self.log.count("is served at")
        while self.log.count("is served at") == known:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < until, self.log
            time.sleep(0.05)
        return self

    def kill(self) -> None:
        """End the process without a chance to save anything."""
        assert self.process is not None
        self.process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def ask(
        self,
        target: str,
        *headers: str,
        method: str = "GET",
        host: str | None = None,
        body: bytes = b"",
    ) -> Reply:
        """Send a request exactly as given, which no HTTP client would do."""
        lines = [f"{method} {target} HTTP/1.1"]
        if host != "":
            lines.append(f"Host: {host or f'127.0.0.1:{self.port}'}")
        lines += headers
        if body and not any(h.lower().startswith("content-length") for h in headers):
            lines.append(f"Content-Length: {len(body)}")
        # Otherwise, the connection of a websocket would not be upgraded.
        if not any(header.startswith("Upgrade") for header in headers):
            lines.append("Connection: close")
        head = "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")
        return send(self.port, head + body)

    def websocket(self, *headers: str, target: str = "", host: str = "") -> Reply:
        """Ask for a websocket of the pages. The status is 101 if it is opened."""
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        path = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
        return self.ask(
            target or path,
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key}",
            *headers,
            host=host or None,
        )


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def send(port: int, data: bytes) -> Reply:
    """Send bytes and read the answer until its end."""
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.sendall(data)
        found = b""
        while b"\r\n\r\n" not in found:
            part = connection.recv(1 << 16)
            if not part:
                break
            found += part
        head, _, body = found.partition(b"\r\n\r\n")
        assert head, "no answer"
        status = int(head.split()[1])
        # A server that refuses a long request closes the connection in the middle.
        with contextlib.suppress(ConnectionResetError):
            while status != 101 and (part := connection.recv(1 << 16)):
                body += part
    return Reply(status, head.decode("latin-1"), body)
