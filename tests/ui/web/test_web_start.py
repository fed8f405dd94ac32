"""Start of the server, and everything that prevents it: one line each."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.web_server import WebServer, free_port
from stiefel_lora._exceptions import ConfigError, QueueError
from stiefel_lora._locks import Lock
from stiefel_lora.ui.web import ServerOptions, launching, serve
from stiefel_lora.ui.web.access import access_for, is_loopback


def test_the_first_page_is_there_without_a_redirect(server: WebServer) -> None:
    reply = server.ask("/")
    assert reply.status == 200
    assert b"Stiefel LoRA" in reply.body
    # Nothing of the page comes from another server.
    assert b"https://" not in reply.body.replace(b"https://nicegui.io", b"")
    assert "token" not in server.log


def test_another_address_prints_a_token_once(tmp_path: Path) -> None:
    server = WebServer(tmp_path, "--host", "0.0.0.0")
    try:
        server.start()
        (line,) = [text for text in server.log.splitlines() if "?token=" in text]
        token = line.partition("?token=")[2]
        assert len(token) >= 32
        assert server.ask("/").status == 401
        assert server.ask(f"/?token={token}").status == 200
    finally:
        server.stop()


def test_the_port_is_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--port: {port} is in use by another"):
            serve(None, ServerOptions(port=port))


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("192.0.2.1", "--host: 192.0.2.1 is not an address of this machine."),
        ("no such name", "--host: 'no such name' is not an address of this machine."),
    ],
)
def test_addresses_of_other_machines(host: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        serve(None, ServerOptions(host=host, port=free_port()))
    assert str(caught.value).startswith(message)


def test_a_second_server_on_one_queue(own_home: Path) -> None:
    queue = own_home / "queue"
    lock = Lock(queue / "web.lock")
    assert lock.claim()
    (queue / "web.address").write_text("http://127.0.0.1:7865/\n")
    with pytest.raises(QueueError) as caught:
        serve(None, ServerOptions(port=free_port()))
    assert "is already served at http://127.0.0.1:7865/." in str(caught.value)
    lock.release()


def test_the_extra_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*sys.modules]:
        if name.startswith("stiefel_lora.ui.web.server"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ConfigError, match="needs the package uvicorn, which is not"):
        serve(None, ServerOptions(port=free_port()))


def test_a_folder_of_images_that_is_gone(tmp_path: Path) -> None:
    options = ServerOptions(datasets=(tmp_path / "gone",), port=free_port())
    with pytest.raises(ConfigError, match=r"^--data: the folder .* does not exist"):
        serve(None, options)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"schema_version": 99}, "schema_version"),
        ({"lora_rank": "many"}, "lora_rank"),
    ],
)
def test_a_config_of_a_newer_version(
    tmp_path: Path, data: dict[str, object], message: str
) -> None:
    path = tmp_path / "new.json"
    path.write_text(json.dumps(data))
    server = WebServer(tmp_path, str(path))
    done = subprocess.run(
        server.command(),
        capture_output=True,
        text=True,
        check=False,
        cwd=server.work,
        env=server.environment(),
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert message in line


def test_settings_of_a_newer_session_lose_nothing(tmp_path: Path) -> None:
    server = WebServer(tmp_path)
    server.home.mkdir(parents=True)
    data = {"lora_rank": 24, "a_setting_of_tomorrow": 1, "schema_version": 99}
    text = json.dumps({"data": data, "source": "", "a_state_of_tomorrow": True})
    (server.home / "web.json").write_text(text)
    try:
        assert server.start().ask("/").status == 200
    finally:
        server.stop()


@pytest.mark.parametrize("token", ["short", "fifteen-letters"])
def test_short_tokens(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("STIEFEL_LORA_WEB_TOKEN", token)
    with pytest.raises(ConfigError, match="must have at least 16 characters"):
        access_for("127.0.0.1", 7865)


@pytest.mark.parametrize(
    ("host", "names", "required"),
    [
        ("127.0.0.1", (), False),
        ("localhost", (), False),
        ("::1", (), False),
        ("127.0.0.2", (), False),
        ("127.0.0.1", ("lora.example.org",), True),
        ("0.0.0.0", (), True),
        ("::", (), True),
        ("192.168.1.2", (), True),
        ("localhost.example.org", (), True),
    ],
)
def test_where_a_token_is_required(
    monkeypatch: pytest.MonkeyPatch, host: str, names: tuple[str, ...], required: bool
) -> None:
    monkeypatch.delenv("STIEFEL_LORA_WEB_TOKEN", raising=False)
    access, is_new = access_for(host, 7865, names)
    assert (access.token is not None) is required
    assert is_new is required
    assert is_loopback(host) is (not required or bool(names))


@pytest.mark.parametrize(
    "name", ["", "https://lora.example.org", "lora.example.org:443", "a/b", "*", "a b"]
)
def test_names_of_proxies_are_host_names(name: str) -> None:
    with pytest.raises(ConfigError, match="--allowed-host: must be a host name"):
        access_for("127.0.0.1", 7865, [name])


def test_names_of_proxies_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STIEFEL_LORA_WEB_TOKEN", "a-token-of-the-tests")
    access, is_new = access_for("127.0.0.1", 7865, ["Lora.Example.org"])
    assert not is_new
    assert access.accepts_host("lora.example.org")
    assert access.accepts_host("lora.example.org:8443")
    # A proxy may send its own address as Host, and the browser its name as Origin.
    assert access.accepts_origin("https://lora.example.org", "127.0.0.1:7865")
    assert not access.accepts_origin("https://example.org", "127.0.0.1:7865")
    assert not access.accepts_host("example.org")


def test_the_announcement_names_an_address_that_works() -> None:
    options = ServerOptions(host="::1", port=1234)
    access, _ = access_for("::1", 1234)
    text = launching._announcement(options, access, False)
    assert "http://[::1]:1234/" in text
