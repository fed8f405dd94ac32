"""Pages while the events of a run are read slowly."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from helpers.web_server import WebServer
from helpers.written_run import WrittenRun

# Every reading of events waits until the file "gate" exists.
HELD = """
import pathlib, sys, time
from stiefel_lora.cli import main
from stiefel_lora.ui.controllers import run_record

read = run_record.read_events

def held(*arguments):
    pathlib.Path("reading").touch()
    while not pathlib.Path("gate").exists():
        time.sleep(0.05)
    return read(*arguments)

run_record.read_events = held
sys.argv[1:1] = ["web"]
main()
"""


class HeldServer(WebServer):
    """A server that cannot read a run until it is allowed."""

    def command(self) -> list[str]:
        options = ["--port", str(self.port), *self.arguments]
        return [sys.executable, "-c", HELD, *options]


def until_exists(path: Path) -> None:
    """Wait for a file."""
    for _ in range(1200):
        if path.exists():
            return
        time.sleep(0.1)
    raise AssertionError(f"{path} is missing")


def test_pages_are_served_while_a_run_is_read(tmp_path: Path) -> None:
    run = WrittenRun(tmp_path / "runs" / "long")
    run.start()
    run.train(7)
    server = HeldServer(tmp_path, "--runs", str(run.root.parent))
    server.home.mkdir()
    (server.home / "web.json").write_text(json.dumps({"run": str(run.root)}))
    try:
        server.start()
        page = server.ask("/run")
        assert page.status == 200
        assert b"long: waiting" in page.body
        until_exists(server.work / "reading")
        assert server.ask("/").status == 200
        assert server.ask("/queue").status == 200
        (server.work / "gate").touch()
        for _ in range(600):
            if b"long: running" in server.ask("/run").body:
                break
            time.sleep(0.1)
        else:
            raise AssertionError("the run was not read")
    finally:
        server.stop()
