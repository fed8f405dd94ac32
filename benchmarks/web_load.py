"""Measure the server of the browser interface with many browsers that watch a run.

    python benchmarks/web_load.py                         50 browsers, two minutes
    python benchmarks/web_load.py --train                 a training instead of a writer
    python benchmarks/web_load.py --browsers 5 --seconds 20

The run is written by another process: steps twice a second and ranks of 700 blocks
every five seconds, or a training of the demo. It is pinned to one core, and the server
and all browsers to another. The browsers are websocket clients that open the page of
the run, receive what a browser receives, compressed as browsers ask for, and confirm it
as NiceGUI's script does; they do not draw. Printed: time from the start of the process
to the first page (wall and processor), processor time and memory of the server, and
bytes per browser and minute.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import html
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path
from typing import Any

import psutil
from ui_speed import write_events
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Ping, Request, TextMessage
from wsproto.extensions import PerMessageDeflate

# Seconds between the confirmations of a browser.
_ACK_SECONDS = 3.0
# Seconds in which a browser gets what happened before.
_OPENING_SECONDS = 15.0


class Watcher:
    """Browser that watches a run, without a screen."""

    def __init__(self, port: int, path: str) -> None:
        self.port, self.path = port, path
        self.page_bytes = self.received = self.opening = self.messages = 0
        self._next = 0
        self._part = ""
        self._query: dict[str, object] = {}
        self._ready: list[dict[str, object]] = []

    async def watch(self, until: float) -> None:
        """Open the page and receive messages until a time."""
        await self._open_page()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        socket = WSConnection(ConnectionType.CLIENT)
        query = urllib.parse.urlencode(
            {**self._query, "EIO": 4, "transport": "websocket"}
        )
        request = Request(
            host=f"127.0.0.1:{self.port}",
            target=f"/_nicegui_ws/socket.io/?{query}",
            extensions=[PerMessageDeflate()],
        )
        writer.write(socket.send(request))
        began = confirmed = time.monotonic()
        while (left := until - time.monotonic()) > 0:
            try:
                data = await asyncio.wait_for(reader.read(1 << 16), min(left, 1.0))
            except asyncio.TimeoutError:
                data = None
            if data == b"":
                raise ConnectionError("the server has closed the connection")
            if data:
                self.received += len(data)
                if time.monotonic() - began < _OPENING_SECONDS:
                    self.opening = self.received
                socket.receive_data(data)
                self._answer(socket, writer)
            if time.monotonic() - confirmed > _ACK_SECONDS:
                confirmed = time.monotonic()
                known = {"client_id": self._query["client_id"]}
                ack = json.dumps(["ack", {**known, "next_message_id": self._next}])
                writer.write(socket.send(TextMessage(f"42{ack}")))
        writer.close()

    def _answer(self, socket: WSConnection, writer: asyncio.StreamWriter) -> None:
        for event in socket.events():
            if isinstance(event, AcceptConnection):
                continue
            if isinstance(event, Ping):
                writer.write(socket.send(event.response()))
            if not isinstance(event, TextMessage):
                continue
            self._part += event.data
            if not event.message_finished:
                continue
            text, self._part = self._part, ""
            if text.startswith("0"):
                writer.write(socket.send(TextMessage("40")))
            elif text.startswith("40"):
                for each in self._ready:
                    ready = json.dumps(["event", each])
                    writer.write(socket.send(TextMessage(f"42{ready}")))
            elif text == "2":
                writer.write(socket.send(TextMessage("3")))
            elif text.startswith("42"):
                self.messages += 1
                for found in re.finditer(r'"_id":(\d+)', text):
                    self._next = max(self._next, int(found[1]) + 1)

    async def _open_page(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(
            f"GET {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        page = await reader.read()
        while not reader.at_eof():
            page += await reader.read()
        writer.close()
        self.page_bytes = len(page)
        found = re.search(r"query: (\{.*?\})", page.decode())
        assert found is not None, page[:300]
        query = ast.literal_eval(found[1])
        self._query = {
            **query,
            "implicit_handshake": "true",
            "tab_id": secrets.token_hex(8),
            "document_id": secrets.token_hex(8),
        }
        self._ready = [
            {
                "id": int(name),
                "client_id": query["client_id"],
                "listener_id": event["listener_id"],
                "args": [],
            }
            for name, element in _elements(page.decode()).items()
            for event in element.get("events", ())
            if event["type"] == "ready"
        ]


def _elements(page: str) -> dict[str, dict[str, Any]]:
    """Return the elements of a page. Plots ask for their data when they are shown."""
    found = re.search(r"String\.raw`(.*?)`", page, re.DOTALL)
    assert found is not None, page[:300]
    return json.loads(html.unescape(found[1]))


def start_server(folder: Path, port: int, runs: Path) -> psutil.Popen:
    """Start the server with an empty home."""
    # As users start it: the package is compiled once.
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment = {
        **kept,
        "STIEFEL_LORA_UI": str(folder / "home"),
        "STIEFEL_LORA_QUEUE": str(folder / "home" / "queue"),
    }
    command = [sys.executable, "-m", "stiefel_lora", "web", "--port", str(port)]
    return psutil.Popen(
        [*command, "--runs", str(runs)],
        env=environment,
        cwd=folder,
        stdout=subprocess.DEVNULL,
    )


async def first_page(server: psutil.Popen, port: int) -> None:
    """Wait until the server sends its first page."""
    while server.poll() is None:
        try:
            await Watcher(port, "/")._open_page()
        except OSError:
            await asyncio.sleep(0.02)
        else:
            return
    raise SystemExit("the server has ended")


def start_run(folder: Path, seconds: float, *, train: bool) -> psutil.Popen:
    """Start a process that writes the events of a run."""
    if train:
        places = (f"output_dir={folder}", "run_name=load")
        settings = ("steps=100000", "rank_every=10", "validate_every=0", *places)
        options = [part for text in settings for part in ("--set", text)]
        command = [sys.executable, "-m", "stiefel_lora", "train", "demo_stiefel_lora"]
        return psutil.Popen([*command, *options], stdout=subprocess.DEVNULL)
    command = [sys.executable, __file__, "--write", str(folder / "load")]
    return psutil.Popen([*command, "--seconds", str(seconds)])


def write(root: Path, seconds: float) -> None:
    """Write steps twice a second and ranks of 700 blocks every five seconds."""
    from stiefel_lora.runs.events import JsonlSink

    root.mkdir(parents=True)
    # A run that was started a while ago.
    write_events(root / "events.jsonl", blocks=700, events=100)
    sink = JsonlSink(root / "events.jsonl")
    names = [f"up_blocks.{i // 100}/attentions.{i % 100}.to_q" for i in range(700)]
    until, step = time.monotonic() + seconds, 100
    while time.monotonic() < until:
        step += 1
        values = {"loss/train": 1 / step, "loss/train_smooth": 0.1}
        sink.scalars("train", step, values)
        if step % 10 == 0:
            ranks = {f"effective_rank.{n}": 8 + step % 7 for n in names}
            sink.scalars("ranks", step, {"effective_rank/mean": 8.0, **ranks})
        time.sleep(0.5)


async def measure(options: argparse.Namespace, folder: Path) -> None:
    """Start everything, watch, and print the figures."""
    runs = folder / "runs"
    port = options.port
    cores = sorted(psutil.Process().cpu_affinity())
    run = start_run(runs, options.seconds + 60, train=options.train)
    run.cpu_affinity(cores[:1])
    psutil.Process().cpu_affinity(cores[-1:])
    events = runs / "load" / "events.jsonl"
    # Loading the demo takes a while.
    while not events.exists() or b'"ranks"' not in events.read_bytes():
        time.sleep(0.5)
    began = time.monotonic()
    server = start_server(folder, port, runs)
    try:
        await first_page(server, port)
        used = sum(server.cpu_times()[:2])
        wall = time.monotonic() - began
        print(f"first page: {wall:.1f} s, {used:.1f} s of the processor")
        print(f"memory: {server.memory_info().rss / 1e6:.0f} MB")
        until = time.monotonic() + options.seconds
        browsers = [Watcher(port, options.page) for _ in range(options.browsers)]
        tasks = [asyncio.create_task(found.watch(until)) for found in browsers]
        highest = 0
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0.5)
            highest = max(highest, server.memory_info().rss)
        await asyncio.gather(*tasks)
        spent = sum(server.cpu_times()[:2]) - used
        minutes = (options.seconds - _OPENING_SECONDS) / 60
        opening = sum(found.opening for found in browsers) / len(browsers)
        received = sum(found.received for found in browsers) / len(browsers) - opening
        messages = sum(found.messages for found in browsers) / len(browsers)
        print(f"{len(browsers)} browsers, {options.seconds:.0f} s:")
        page = browsers[0].page_bytes
        print(f"page: {page / 1e3:.0f} kB, curves and heat map: {opening / 1e3:.0f} kB")
        print(f"per browser and minute: {received / minutes / 1e3:.1f} kB,", end=" ")
        print(f"{messages / options.seconds * 60:.0f} messages")
        print(f"server: {spent:.1f} s of the processor, {highest / 1e6:.0f} MB at most")
    finally:
        for process in (run, server):
            process.kill()
            process.wait()


def main() -> None:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--browsers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--port", type=int, default=7899)
    parser.add_argument("--page", default="/run", help="address of the page")
    parser.add_argument("--train", action="store_true", help="train the demo")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write is not None:
        write(options.write, options.seconds)
        return
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(options, Path(folder)))


if __name__ == "__main__":
    main()
