"""``stiefel-lora ui`` where no window can be opened: one message, no abort."""

from __future__ import annotations

import os
import socket
import sys
import threading

import pytest

from helpers.no_display import assert_one_message
from stiefel_lora import ConfigError
from stiefel_lora.ui import display

pytestmark = pytest.mark.skipif(
    sys.platform in ("win32", "darwin"), reason="needs X11 or Wayland"
)


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({}, "no display was found (DISPLAY and WAYLAND_DISPLAY are not set)"),
        ({"DISPLAY": ":54321"}, "the display DISPLAY=:54321 does not respond"),
        ({"QT_QPA_PLATFORM": "xcb"}, "no display was found"),
    ],
)
def test_the_command_ends_with_one_message_on_the_command_line(
    variables: dict[str, str], reason: str
) -> None:
    assert_one_message(variables, reason)


@pytest.fixture
def server():
    """A display of its own number behind an abstract socket."""
    if sys.platform != "linux":
        pytest.skip("abstract sockets are Linux's")
    with socket.socket(socket.AF_UNIX) as listener:
        number = 20_000 + os.getpid() % 10_000
        listener.bind(f"\0/tmp/.X11-unix/X{number}")
        listener.listen()
        yield listener, f":{number}.0"


def test_a_server_that_takes_the_connection_and_hangs(
    server: tuple[socket.socket, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "_SECONDS", 0.1)
    with pytest.raises(ConfigError, match="does not respond"):
        display.check_display((), {"DISPLAY": server[1]})


@pytest.mark.parametrize("answer", [b"\x01", b"\x00"])
def test_a_server_that_answers_even_a_refusal_is_left_to_qt(
    server: tuple[socket.socket, str], answer: bytes
) -> None:
    listener, name = server
    heard = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            heard.append(connection.recv(64))
            connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    display.check_display((), {"DISPLAY": name})
    thread.join()
    assert heard == [b"l\0\x0b\0\0\0\0\0\0\0\0\0"]


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        (("-platform", "offscreen"), {}),
        ((), {"QT_QPA_PLATFORM": "offscreen"}),
        ((), {"QT_QPA_PLATFORM": "wayland", "DISPLAY": ":54321"}),
        ((), {"WAYLAND_DISPLAY": "wayland-0", "DISPLAY": ":54321"}),
        ((), {"DISPLAY": "/private/tmp/com.apple.launchd/org.xquartz:0"}),
    ],
)
def test_what_qt_must_judge_itself_is_left_to_it(
    arguments: tuple[str, ...], variables: dict[str, str]
) -> None:
    display.check_display(arguments, variables)


def test_a_host_whose_port_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.getsockname()[1] - 6000
        display.check_display((), {"DISPLAY": f"127.0.0.1:{number}.0"})
    with pytest.raises(ConfigError, match="does not respond"):
        display.check_display((), {"DISPLAY": f"127.0.0.1:{number}.0"})
