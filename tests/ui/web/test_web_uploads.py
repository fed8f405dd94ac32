"""Uploads that are accepted, and those that find a full disk or a file."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from helpers.web_server import WebServer
from stiefel_lora.ui.controllers.concept_list import add_folders, include_subfolders
from stiefel_lora.ui.controllers.document import Document
from stiefel_lora.ui.web import upload_rules
from stiefel_lora.ui.web.security import Refusal
from stiefel_lora.ui.web.upload_rules import Limits, check_count, check_space, on_disk
from stiefel_lora.ui.web.zip_upload import unpack


def _image(kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 8), "teal").save(file, kind)
    return file.getvalue()


def _zip(**files: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def test_images_captions_and_archives(server: WebServer) -> None:
    def put(name: str, body: bytes) -> tuple[int, dict]:
        reply = server.ask(f"/uploads/my%20cats/{name}", method="PUT", body=body)
        return reply.status, json.loads(reply.body)

    folder = server.home / "uploads" / "my cats"
    status, found = put("a.png", _image())
    assert (status, found["message"]) == (201, "1 file added.")
    assert found["folder"] == str(folder)
    assert put("a.txt", "ein Kätzchen".encode())[0] == 201
    assert put("k%C3%A4tzchen.jpg", _image("JPEG"))[0] == 201
    status, found = put("a.png", _image())
    assert status == 409
    assert found["message"] == "a.png is already in this dataset."
    status, found = put(
        "b.zip",
        _zip(
            **{
                "cats/b.png": _image(),
                "cats/b.txt": b"a cat",
                "cats/readme.md": b"hello",
                "cats/c.png": b"no image",
                "__MACOSX/._b.png": b"x",
                "cats/.DS_Store": b"x",
            }
        ),
    )
    assert status == 201
    assert found["files"] == ["cats/b.png", "cats/b.txt"]
    assert found["message"].startswith("2 files added. 2 files skipped: cats/readme.md")
    # Nothing is added if one of the files is there.
    again = _zip(**{"cats/d.png": _image(), "cats/b.png": _image()})
    assert put("c.zip", again)[0] == 409
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.*"))
    assert names == ["a.png", "a.txt", "cats/b.png", "cats/b.txt", "kätzchen.jpg"]
    assert not list((server.home / "uploads" / ".incoming").iterdir())


def test_an_upload_that_breaks_off_leaves_nothing(server: WebServer) -> None:
    import socket

    head = (
        f"PUT /uploads/cats/a.png HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        "Content-Length: 1000000\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
        connection.sendall(head.encode() + _image())
    assert server.ask("/").status == 200
    assert not list((server.home / "uploads").rglob("*.png"))


def test_a_full_disk(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    limits = Limits(reserve=0)
    check_space(tmp_path / "not" / "there", 1, limits)
    with pytest.raises(Refusal, match="The disk of the server is full") as caught:
        check_space(tmp_path, 2 * free, limits)
    assert caught.value.status == 507


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_is_full_while_it_is_written() -> None:
    with pytest.raises(Refusal) as caught, on_disk():
        Path("/dev/full").write_bytes(b"x")
    assert caught.value.status == 507
    assert "Nothing was added." in caught.value.message


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="could not be written") as caught, on_disk():
        (tmp_path / "gone" / "a").write_bytes(b"")
    assert caught.value.status == 500


def test_the_number_of_files_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    check_count(tmp_path, 2, Limits(files=3))
    with pytest.raises(Refusal, match="at most 3 files"):
        check_count(tmp_path, 3, Limits(files=3))
    archive = tmp_path / "many.zip"
    archive.write_bytes(_zip(**{f"{i}.txt": b"x" for i in range(4)}))
    with pytest.raises(Refusal, match="at most 3 files"):
        unpack(archive, tmp_path / "into", Limits(files=3))


def test_the_size_of_all_files_is_bounded(tmp_path: Path) -> None:
    archive = tmp_path / "large.zip"
    archive.write_bytes(_zip(**{"a.txt": b"x" * 900, "b.txt": b"x" * 900}))
    with pytest.raises(Refusal, match="are too large"):
        unpack(archive, tmp_path / "into", Limits(unpacked=1000))
    assert not (tmp_path / "into").exists()
    assert upload_rules.Limits().unpacked >= 1 << 30


def test_subfolders_of_an_uploaded_archive_are_used(tmp_path: Path) -> None:
    document = Document()
    flat, deep = tmp_path / "flat", tmp_path / "deep"
    for folder in (flat, deep / "cats"):
        folder.mkdir(parents=True)
        (folder / "a.png").write_bytes(_image())
    add_folders(document, [flat, deep])
    for folder in (flat, deep):
        include_subfolders(document, folder)
    config = document.config()
    found = {each.path.name: each.include_subdirectories for each in config.concepts}
    assert found == {"flat": False, "deep": True}
