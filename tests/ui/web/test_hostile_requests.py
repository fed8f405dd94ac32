"""Requests that must be refused: each with a status and a message, nothing read."""

from __future__ import annotations

import io
import json
import os
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from helpers.web_server import WebServer
from stiefel_lora.ui.web.served_images import name_of_folder

TOKEN = "a-token-of-the-tests"
KEY = f"Authorization: Bearer {TOKEN}"
SECRET = b"the-secret-of-another-folder"


class Place(NamedTuple):
    """A server with a dataset and a run, beside files that it must not serve."""

    server: WebServer
    data: Path
    run: Path
    images: str
    files: str
    crops: str


def _png(size: tuple[int, int] = (8, 8)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "teal").save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("hostile").resolve()
    data, runs, outside = folder / "data", folder / "runs", folder / "outside"
    run = runs / "cats"
    for path in (data / "sub", run / "samples", run / "checkpoints", outside):
        path.mkdir(parents=True)
    (data / "cat.png").write_bytes(_png())
    (data / "sub" / "dog.png").write_bytes(_png())
    (data / "notes.txt").write_bytes(SECRET)
    (data / ".hidden.png").write_bytes(_png())
    (data / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + SECRET)
    (data / "script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n" + SECRET)
    (data / "bomb.png").write_bytes(_huge_png())
    (outside / "secret.png").write_bytes(_png() + SECRET)
    (outside / "secret.txt").write_bytes(SECRET)
    (run / "events.jsonl").write_text('{"type": "start", "step": 0, "values": {}}\n')
    (run / "samples" / "a.png").write_bytes(_png())
    (run / "page.html").write_text("<script>alert(1)</script>")
    if sys.platform != "win32":
        (data / "link.png").symlink_to(outside / "secret.png")
        (data / "folder").symlink_to(outside)
        (run / "link.txt").symlink_to(outside / "secret.txt")
        os.mkfifo(data / "pipe.png")
    results = folder / "home" / "lora-files"
    results.mkdir(parents=True)
    (results / "own.safetensors").write_bytes(b"weights")
    for name in ("notes.txt", ".hidden.safetensors"):
        (results / name).write_bytes(SECRET)
    if sys.platform != "win32":
        (results / "link.safetensors").symlink_to(outside / "secret.txt")
        (results / "folder").symlink_to(outside)
    config = {
        "extends": "demo_adamw",
        "concepts": [{"path": str(data)}],
        "allow_upscaling": True,
    }
    (folder / "settings.json").write_text(json.dumps(config), encoding="utf-8")
    options = ("--data", str(data), "--runs", str(runs))
    server = WebServer(folder, str(folder / "settings.json"), *options, token=TOKEN)
    try:
        yield Place(
            server.start(),
            data,
            run,
            f"/images/{name_of_folder(data)}",
            f"/runs/{name_of_folder(run)}/files",
            f"/crops/training/0/{name_of_folder(data)}",
        )
    finally:
        server.stop()


def _huge_png() -> bytes:
    """A PNG file of 900 million pixels in a few bytes."""
    whole = bytearray(_png())
    whole[16:24] = struct.pack(">II", 30_000, 30_000)
    # The checksum of the header, or Pillow reports damage before the size.
    whole[29:33] = struct.pack(">I", zlib.crc32(bytes(whole[12:29])))
    return bytes(whole)


PAGE, SOCKET, STATIC = "/", "/_nicegui_ws/socket.io/", "/_nicegui/3.0.0/static/x.js"

WITHOUT_TOKEN = {
    "page": ("GET", PAGE, ()),
    "head of a page": ("HEAD", PAGE, ()),
    "page with an empty token": ("GET", "/?token=", ()),
    "page with a wrong token": ("GET", "/?token=a-token-of-the-testS", ()),
    "page with the start of the token": ("GET", f"/?token={TOKEN[:-1]}", ()),
    "page with more than the token": ("GET", f"/?token={TOKEN}x", ()),
    "token that is no text": ("GET", "/?token=%ff%fe", ()),
    "wrong bearer": ("GET", PAGE, ("Authorization: Bearer wrong",)),
    "empty bearer": ("GET", PAGE, ("Authorization: Bearer ",)),
    "token as password": ("GET", PAGE, (f"Authorization: Basic {TOKEN}",)),
    "two headers": ("GET", PAGE, ("Authorization: Bearer x", KEY)),
    "wrong cookie": ("GET", PAGE, ("Cookie: stiefel_lora_{port}=wrong",)),
    "token itself as cookie": ("GET", PAGE, ("Cookie: stiefel_lora_{port}=" + TOKEN,)),
    "cookie of another port": ("GET", PAGE, ("Cookie: stiefel_lora_1=" + TOKEN,)),
    "polling": ("GET", SOCKET + "?EIO=4&transport=polling", ()),
    "polling with a body": ("POST", SOCKET + "?EIO=4&transport=polling", ()),
    "scripts": ("GET", STATIC, ()),
    "image": ("GET", "{images}/cat.png", ()),
    "crop": ("GET", "{crops}/cat.png", ()),
    "LoRA file": ("GET", "/lora-files/download/own.safetensors", ()),
    "file of a run": ("GET", "{files}/samples/a.png", ()),
    "run as zip": ("GET", "/runs/0123456789abcdef/run.zip", ()),
    "upload": ("PUT", "/uploads/cats/a.png", ()),
    "unknown path": ("GET", "/nothing", ()),
}


@pytest.mark.parametrize("case", WITHOUT_TOKEN)
def test_without_the_token(place: Place, case: str) -> None:
    method, target, headers = WITHOUT_TOKEN[case]
    target = target.format(**place._asdict())
    headers = tuple(text.format(port=place.server.port) for text in headers)
    reply = place.server.ask(target, *headers, method=method)
    assert reply.status == 401, reply
    assert method == "HEAD" or reply.message.startswith("A token is required.")


HOSTS = (
    "evil.example",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "127.0.0.1@evil.example",
    "evil.example#127.0.0.1",
    "evil.example:{port}",
    "192.168.1.2:{port}",
    "[::2]:{port}",
    "0.0.0.0:{port}",
    "127.0.0.1:{port}, evil.example",
    "127.0.0.1:port",
    "127.0.0.1:{port}/x",
    "",
)


@pytest.mark.parametrize("host", HOSTS)
def test_another_host_name(place: Place, host: str) -> None:
    reply = place.server.ask(PAGE, KEY, host=host.format(port=place.server.port))
    # Without a host, the server itself refuses.
    if host:
        assert reply.status == 403
        assert "is not allowed" in reply.message
    else:
        assert reply.status in (400, 403)


def test_two_host_names(place: Place) -> None:
    reply = place.server.ask(PAGE, "Host: evil.example", KEY)
    assert reply.status in (400, 403)


ORIGINS = (
    "http://evil.example",
    "https://127.0.0.1.evil.example",
    "http://127.0.0.1:1",
    "http://localhost:{port}",
    "http://127.0.0.1:{port}@evil.example",
    "file://",
    "null",
    "",
)


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("kind", ["page", "websocket"])
def test_a_page_of_another_site(place: Place, kind: str, origin: str) -> None:
    header = f"Origin: {origin.format(port=place.server.port)}"
    if kind == "page":
        reply = place.server.ask(PAGE, KEY, header)
    else:
        reply = place.server.websocket(KEY, header)
    assert reply.status == 403
    assert "another site" in reply.message


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("kind", ["image", "iframe", "form"])
def test_parts_of_a_page_of_another_site(place: Place, site: str, kind: str) -> None:
    fetch = {
        "image": ("no-cors", "image", "GET"),
        "iframe": ("navigate", "iframe", "GET"),
        "form": ("navigate", "document", "POST"),
    }
    mode, destination, method = fetch[kind]
    reply = place.server.ask(
        f"{place.images}/cat.png",
        KEY,
        f"Sec-Fetch-Site: {site}",
        f"Sec-Fetch-Mode: {mode}",
        f"Sec-Fetch-Dest: {destination}",
        method=method,
    )
    assert reply.status == 403


def test_websockets(place: Place) -> None:
    ours = f"Origin: http://127.0.0.1:{place.server.port}"
    assert place.server.websocket(ours).status == 401
    assert place.server.websocket(ours, "Authorization: Bearer no").status == 401
    assert place.server.websocket(KEY, ours, host="evil.example").status == 403
    assert place.server.websocket(KEY, ours).status == 101


# Target below the folder of images or of the run, and the allowed statuses.
PATHS = (
    "../outside/secret.png",
    "sub/../../outside/secret.png",
    "%2e%2e/outside/secret.png",
    "%2e%2e%2foutside%2fsecret.png",
    "..%2foutside/secret.png",
    "%252e%252e/outside/secret.png",
    "%252e%252e%252foutside%252fsecret.png",
    "..%5coutside%5csecret.png",
    "..\\outside\\secret.png",
    "....//outside/secret.png",
    "..;/outside/secret.png",
    "%c0%ae%c0%ae/outside/secret.png",
    "./cat.png",
    "sub//dog.png",
    "/etc/hostname",
    "%2fetc%2fhostname",
    "{outside}/secret.png",
    "C:/Windows/win.ini",
    "C:%5CWindows%5Cwin.ini",
    "%5c%5cserver%5cshare%5csecret.png",
    "%5c%5c%3f%5cC:%5csecret.png",
    "cat.png::$DATA",
    "cat.png%00.txt",
    "cat.png.",
    "cat.png%20",
    "CON",
    "aux.png",
    "COM1.png",
    "~/.ssh/id_ed25519",
    ".hidden.png",
    "link.png",
    "folder/secret.png",
    "pipe.png",
    "sub",
    "",
    "nothing.png",
    "notes.txt",
    "broken.png",
    "script.png",
    "bomb.png",
    "cat.png?side=0",
    "cat.png?side=-1",
    "cat.png?side=100000",
    "cat.png?side=1e9",
    "cat.png?side=" + "9" * 5000,
    "cat.png?side=%D9%A3%D9%A3%D9%A3",
    "%0d%0aSet-Cookie:%20a=b",
    "a" * 5000,
)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["images", "crops"])
def test_paths_below_a_folder_of_images(place: Place, kind: str, path: str) -> None:
    if sys.platform == "win32" and path in ("link.png", "folder/secret.png"):
        pytest.skip("links need a privilege in Windows")
    path = path.format(outside=place.data.parent / "outside")
    reply = place.server.ask(f"{getattr(place, kind)}/{path}", KEY)
    assert reply.status in (400, 403, 404, 414, 415), reply
    assert SECRET not in reply.body
    # A few are no request at all, which the server below the guard answers.
    if b"json" in reply.headers.encode():
        assert reply.message.endswith((".", ")."))


@pytest.mark.parametrize(
    "path",
    [
        "link.txt",
        "../../outside/secret.txt",
        "%2e%2e/%2e%2e/outside/secret.txt",
        "%252e%252e/%252e%252e/outside/secret.txt",
        "..%5c..%5coutside%5csecret.txt",
        "samples",
        "samples/../../../outside/secret.txt",
        "events.jsonl?side=256",
    ],
)
def test_paths_below_a_run(place: Place, path: str) -> None:
    reply = place.server.ask(f"{place.files}/{path}", KEY)
    assert reply.status in (400, 403, 404, 415), reply
    assert SECRET not in reply.body


@pytest.mark.parametrize(
    "target",
    [
        "/images/0000000000000000/cat.png",
        "/images/../data/cat.png",
        "/images/{outside}/secret.png",
        "/images/{name_of_outside}/secret.png",
        "/crops/training/0/0000000000000000/cat.png",
        "/crops/training/9/{name_of_data}/cat.png",
        "/crops/training/-1/{name_of_data}/cat.png",
        "/crops/training/%D9%A3/{name_of_data}/cat.png",
        "/crops/training/1e9/{name_of_data}/cat.png",
        "/crops/other/0/{name_of_data}/cat.png",
        "/crops/training/0/{name_of_data}/cat.png?use=-1",
        "/crops/training/0/{name_of_data}/cat.png?use=999999999999",
        "/crops/training/0/{name_of_data}/cat.png?use=1000",
        "/crops/training/0/{name_of_data}/cat.png?size=64",
        "/crops/training/0/{name_of_data}/cat.png?size=64x-1",
        "/crops/training/0/{name_of_outside}/secret.png",
        "/lora-files/download/../web.json",
        "/lora-files/download/%2e%2e/web.json",
        "/lora-files/download/%252e%252e/web.json",
        "/lora-files/download/..%5cweb.json",
        "/lora-files/download/{outside}/secret.txt",
        "/lora-files/download/link.safetensors",
        "/lora-files/download/folder/secret.txt",
        "/lora-files/download/notes.txt",
        "/lora-files/download/.hidden.safetensors",
        "/lora-files/download/nothing.safetensors",
        "/lora-files/download/",
        "/runs/0000000000000000/files/events.jsonl",
        "/runs/{name_of_outside}/files/secret.txt",
        "/runs/0000000000000000/run.zip",
        "//evil.example/",
        "*",
        "/docs",
        "/redoc",
        "/openapi.json",
        "/_nicegui/client/0/upload/1",
        "/_nicegui/3.18.0/static/%2e%2e/%2e%2e/nicegui.py",
        "/_nicegui/3.18.0/resources/x/../../nicegui.py",
    ],
)
def test_other_targets(place: Place, target: str) -> None:
    outside = place.data.parent / "outside"
    name = name_of_folder(outside)
    names = {"outside": outside, "name_of_data": name_of_folder(place.data)}
    target = target.format(name_of_outside=name, **names)
    reply = place.server.ask(target, KEY)
    assert reply.status in (400, 403, 404, 415), reply
    assert SECRET not in reply.body


@pytest.mark.parametrize(
    "method", ["DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"]
)
def test_other_methods(place: Place, method: str) -> None:
    reply = place.server.ask(PAGE, KEY, method=method)
    assert reply.status in (400, 405)


def test_long_requests(place: Place) -> None:
    ask = place.server.ask
    assert ask(PAGE, KEY, "Content-Length: 99999999", method="POST").status == 413
    assert ask(PAGE, KEY, "Content-Length: -1", method="POST").status in (400, 413)
    assert ask(PAGE, KEY, f"X: {'a' * 200_000}").status in (400, 431)
    target = "/_nicegui_ws/socket.io/?EIO=4&transport=polling"
    chunked = b"".join(b"10000\r\n" + b"x" * 65536 + b"\r\n" for _ in range(20))
    body = chunked + b"0\r\n\r\n"
    reply = ask(
        target,
        KEY,
        "Transfer-Encoding: chunked",
        "Content-Length: 0",
        method="POST",
        body=body,
    )
    assert reply.status in (400, 413)
    assert ask(PAGE, KEY, method="PUT", body=b"x").status == 405


def _zip(*entries: tuple[str, bytes], change: Callable | None = None) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if change is not None:
                change(info)
            archive.writestr(info, content)
    return file.getvalue()


def _link(info: zipfile.ZipInfo) -> None:
    info.create_system, info.external_attr = 3, 0o120777 << 16


def _locked() -> bytes:
    whole = bytearray(_zip(("a.png", _png())))
    for start, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        whole[whole.index(start) + offset] |= 1
    return bytes(whole)


def _lying() -> bytes:
    """A zip file with an entry of 64 MB whose size is given as 100 bytes."""
    whole = bytearray(_zip(("a.txt", b"a" * (64 << 20))))
    for start, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        place = whole.index(start) + offset
        whole[place : place + 4] = struct.pack("<I", 100)
    return bytes(whole)


IMAGE = ("a.png", _png())
# Name of the file, its content, and the status.
UPLOADS: dict[str, tuple[str, bytes, int]] = {
    "parent in a zip": ("a.zip", _zip(IMAGE, ("../b.png", _png())), 400),
    "deep parent in a zip": ("a.zip", _zip(IMAGE, ("x/../../b.png", _png())), 400),
    "absolute path in a zip": ("a.zip", _zip(IMAGE, ("/tmp/b.png", _png())), 400),
    "backslashes in a zip": ("a.zip", _zip(IMAGE, ("..\\b.png", _png())), 400),
    "drive in a zip": ("a.zip", _zip(IMAGE, ("C:/b.png", _png())), 400),
    "stream in a zip": ("a.zip", _zip(IMAGE, ("b.png:x", _png())), 400),
    "device in a zip": ("a.zip", _zip(IMAGE, ("nul.png", _png())), 400),
    "link in a zip": ("a.zip", _zip(("a.png", b"/etc/passwd"), change=_link), 400),
    "hidden file in a zip": ("a.zip", _zip(IMAGE, (".bashrc.png", _png())), 400),
    "same name twice": ("a.zip", _zip(IMAGE, ("A.PNG", _png())), 400),
    "encrypted zip": ("a.zip", _locked(), 400),
    "zip bomb": ("a.zip", _zip(("a.txt", b"a" * (64 << 20))), 413),
    "zip that lies": ("a.zip", _lying(), 415),
    "zip in a zip": ("a.zip", _zip(("b.zip", _zip(IMAGE))), 415),
    "program in a zip": ("a.zip", _zip(("a.py", b"import os")), 415),
    "file and folder": (
        "a.zip",
        _zip(IMAGE, ("b.txt", b"x"), ("b.txt/c.png", _png())),
        400,
    ),
    "name that is no text": (
        "a.zip",
        _zip(("\u00e4.png", _png())).replace("\u00e4".encode(), b"\xff\xfe"),
        415,
    ),
    "zip without its beginning": ("a.zip", _zip(IMAGE)[30:], 415),
    "only a large caption": ("a.zip", _zip(("a.txt", b"a b" * (1 << 20))), 415),
    "damaged zip": ("a.zip", _zip(IMAGE)[:-30], 415),
    "no zip": ("a.zip", b"hello", 415),
    "empty zip": ("a.zip", _zip(), 415),
    "no image": ("a.png", b"hello", 415),
    "program as image": ("a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n", 415),
    "image of many pixels": ("a.png", _huge_png(), 415),
    "page": ("a.html", b"<script>", 415),
    "program": ("a.py", b"import os", 415),
    "pickle": ("a.ckpt", b"\x80\x04.", 415),
    "drawing": ("a.svg", b"<svg/>", 415),
    "text that is none": ("a.txt", b"\xff\xfe\0", 415),
    "long text": ("a.txt", b"a" * (2 << 20), 413),
    "hidden name": (".a.png", _png(), 400),
    "parent as name": ("..", _png(), 400),
    "encoded parent as name": ("%2e%2e%2fa.png", _png(), 400),
    "backslash as name": ("..%5ca.png", _png(), 400),
    "device as name": ("con.png", _png(), 400),
    "stream as name": ("a.png:b.png", _png(), 400),
    "zero byte as name": ("a%00.png", _png(), 400),
    "long name": ("a" * 300 + ".png", _png(), 400),
    "name that reads backwards": ("gnp%E2%80%AEexe.png", _png(), 400),
}


@pytest.mark.parametrize("case", UPLOADS)
def test_uploads(place: Place, case: str) -> None:
    name, content, status = UPLOADS[case]
    target = f"/uploads/{case.replace(' ', '-')}/{name}"
    reply = place.server.ask(target, KEY, method="PUT", body=content)
    assert reply.status == status, reply
    assert reply.message.endswith((".", ")."))
    folder = place.server.home / "uploads"
    assert not [path for path in folder.rglob("*") if path.is_file()]
    assert not list(folder.glob("*-*")), "no folder is left either"


@pytest.mark.parametrize("dataset", ["..", "a.b", "-a", "a%2fb", "%2e%2e", "a" * 65])
def test_names_of_uploaded_datasets(place: Place, dataset: str) -> None:
    target = f"/uploads/{dataset}/a.png"
    reply = place.server.ask(target, KEY, method="PUT", body=_png())
    assert reply.status == 400


def test_what_is_allowed(place: Place) -> None:
    """The same requests without the attack: a guard that refuses all is no guard."""
    ask = place.server.ask
    page = ask(PAGE, KEY)
    assert page.status == 200
    assert "frame-ancestors 'none'" in page.headers
    assert "Access-Control" not in page.headers
    host = f"localhost:{place.server.port}"
    assert ask(PAGE, KEY, host=host).status == 200
    # Another port: a tunnel of ssh.
    assert ask(PAGE, KEY, "Origin: http://localhost:9000", host="localhost:9000")
    first = ask(f"/?token={TOKEN}")
    assert first.status == 200
    (cookie,) = [t for t in first.headers.splitlines() if t.startswith("set-cookie")]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    value = cookie.partition(": ")[2].partition(";")[0]
    assert ask(PAGE, f"Cookie: other=1; {value}").status == 200
    assert ask(f"{place.images}/cat.png", KEY).body[:2] == b"\xff\xd8"
    assert ask(f"{place.images}/sub/dog.png?side=64", KEY).status == 200
    assert ask(f"{place.crops}/cat.png?use=3", KEY).body[:2] == b"\xff\xd8"
    assert ask(f"{place.files}/samples/a.png", KEY).body == _png()
    assert ask("/lora-files/download/own.safetensors", KEY).body == b"weights"
    found = ask(f"{place.files}/page.html", KEY)
    assert "attachment" in found.headers
    assert "octet-stream" in found.headers
    whole = ask(place.files.removesuffix("files") + "run.zip", KEY)
    assert whole.status == 200
    with zipfile.ZipFile(io.BytesIO(_unchunked(whole.body))) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    assert names == {
        f"cats/{n}" for n in ("events.jsonl", "page.html", "samples/a.png")
    }
    with_form = ask(PAGE, "Accept: text/html")
    assert with_form.status == 401
    assert b'action="/sign-in"' in with_form.body


def _unchunked(body: bytes) -> bytes:
    found = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        found, body = found + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return found


def test_the_form_for_the_token(place: Place) -> None:
    kind = "Content-Type: application/x-www-form-urlencoded"
    ask = place.server.ask
    wrong = ask("/sign-in", kind, method="POST", body=b"token=wrong")
    assert wrong.status == 401
    assert "set-cookie" not in wrong.headers
    assert ask("/sign-in").status == 405
    right = ask("/sign-in", kind, method="POST", body=f"token={TOKEN}".encode())
    assert right.status == 303
    assert "set-cookie" in right.headers
    ours = f"Origin: http://127.0.0.1:{place.server.port}"
    theirs = "Origin: http://evil.example"
    body = f"token={TOKEN}".encode()
    assert ask("/sign-in", kind, ours, method="POST", body=body).status == 303
    assert ask("/sign-in", kind, theirs, method="POST", body=body).status == 403
