from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from stiefel_lora._commands import app
from stiefel_lora.config import parse_config
from stiefel_lora.data.decode_check import DecodeCheck
from stiefel_lora.data.folder_report import report_on


def folder_with_problems(folder: Path) -> Path:
    for name, size in [("a", (64, 64)), ("b", (96, 48)), ("c", (65, 64))]:
        Image.new("RGB", size, (7, 8, 9)).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text("a thing")
    (folder / "c.txt").unlink()
    whole = (folder / "a.png").read_bytes()
    (folder / "copy.png").write_bytes(whole)
    (folder / "cut.png").write_bytes(whole[:60])
    (folder / "broken.jpg").write_bytes(b"no picture")
    line = '{"file_name": "gone.png", "text": "x"}'
    (folder / "metadata.jsonl").write_text(line)
    return folder


def settings(folder: Path) -> dict[str, object]:
    return {
        "concepts": str(folder),
        "resolution": 64,
        "bucket_step": 8,
        "batch_size": 2,
    }


def test_report_counts_and_names_problems(tmp_path: Path) -> None:
    folder = folder_with_problems(tmp_path)
    report = report_on(parse_config(settings(folder)))
    assert report.images == 6
    assert report.per_pass == 5
    assert report.buckets == {(64, 64): 4, (88, 40): 1}
    assert report.small_buckets == {(88, 40): 1}
    assert (report.smallest, report.largest) == ((64, 64), (96, 48))
    assert [p.name for p in report.without_caption] == [
        "broken.jpg",
        "c.png",
        "copy.png",
        "cut.png",
    ]
    assert [path.name for path in report.broken] == ["broken.jpg"]
    assert [[p.name for p in same] for same in report.duplicates] == [
        ["a.png", "copy.png"]
    ]
    assert [path.name for path in report.listed_but_missing] == ["gone.png"]
    decoded = report_on(parse_config(settings(folder)), DecodeCheck().check)
    assert [path.name for path in decoded.broken] == ["broken.jpg", "cut.png"]


def test_a_listed_name_that_no_disk_takes_is_not_there(tmp_path: Path) -> None:
    folder = folder_with_problems(tmp_path)
    line = '{"file_name": "%s.png", "text": "x"}' % ("x" * 300)
    (folder / "metadata.jsonl").write_text(line)
    (missing,) = report_on(parse_config(settings(folder))).listed_but_missing
    assert missing.stem == "x" * 300


def test_the_command_prints_the_report(tmp_path: Path) -> None:
    folder = folder_with_problems(tmp_path)
    config = tmp_path / "my.json"
    config.write_text("{}")
    sets = [f"--set={key}={value}" for key, value in settings(folder).items()]
    done = CliRunner().invoke(app, ["scan", str(config), *sets])
    assert done.exit_code == 0, done.output
    first, *problems = done.output.splitlines()
    assert first == "6 images, 4 per epoch, in 2 buckets of 64 x 64 (3), 88 x 40 (1)."
    assert "2 images cannot be read and are skipped: broken.jpg, cut.png." in problems
    assert "1 image has duplicates: a.png = copy.png." in problems
    done = CliRunner().invoke(app, ["scan", str(config), "--no-decode", *sets])
    first, *problems = done.output.splitlines()
    assert first == "6 images, 5 per epoch, in 2 buckets of 64 x 64 (4), 88 x 40 (1)."
    assert "1 image cannot be read and is skipped: broken.jpg." in problems


def test_lines_stay_short_however_many_files_have_a_problem(tmp_path: Path) -> None:
    for number in range(30):
        Image.new("RGB", (64, 64)).save(tmp_path / f"copy-{number}.png")
        (tmp_path / f"broken-{number}.png").write_bytes(b"")
    problems = report_on(parse_config(settings(tmp_path))).messages()
    assert "1 image has duplicates: copy-0.png = copy-1.png = copy-10.png ..." in str(
        problems
    )
    assert max(map(len, problems)) < 300


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_among_images_are_reported(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    messages = report_on(parse_config(settings(tmp_path))).messages()
    assert f"{tmp_path}: 1 pipe or device is skipped: b.png." in messages


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_caption_that_is_a_pipe_is_reported_and_not_read(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "a.txt")
    report = report_on(parse_config(settings(tmp_path)))
    (message,) = report.problems.values()
    assert message.endswith("a.txt is not a regular file. Remove it.")


@pytest.mark.parametrize(
    ("changed", "shown"),
    [
        ({"resolution": 512}, True),
        ({"resolution": 512, "allow_upscaling": True}, False),
        ({"resolution": 64}, False),
        # Close to the resolution: less than half a step is missing.
        ({"resolution": 80, "bucket_step": 64}, False),
    ],
)
def test_images_below_the_resolution_are_reported(
    tmp_path: Path, changed: dict[str, Any], shown: bool
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, size in enumerate([(64, 64), (72, 64)]):
        Image.new("RGB", size, (number, 0, 0)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("a cat")
    messages = report_on(parse_config({**settings(folder), **changed})).messages()
    found = [
        message for message in messages if "smaller than the resolution" in message
    ]
    assert bool(found) == shown
    if shown:
        assert found[0].startswith(
            "2 images are smaller than the resolution 512, without being enlarged (the "
            "smallest is 64 x 64)."
        )


def test_scan_reports_the_rest_and_then_refuses_bad_captions(tmp_path: Path) -> None:
    folder = folder_with_problems(tmp_path)
    (folder / "a.txt").write_bytes(b"caf\xe9")
    (folder / "b.txt").write_bytes(b"\xff\xfe\xff")
    config = tmp_path / "my.json"
    config.write_text("{}")
    sets = [f"--set={key}={value}" for key, value in settings(folder).items()]
    done = CliRunner().invoke(app, ["scan", str(config), *sets])
    assert done.exit_code == 2
    assert "cannot be read and are skipped: broken.jpg, cut.png." in done.stdout
    assert done.stderr.splitlines() == [
        f"The caption {folder / 'a.txt'} is not UTF-8 (byte 3). Save it as UTF-8 in "
        "a text editor.",
        f"The caption {folder / 'b.txt'} is damaged UTF-16 (byte 2) and not UTF-8. "
        "Save it as UTF-8 in a text editor.",
    ]


def test_scan_lists_every_file_with_a_problem_and_its_reason(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(7):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(folder / f"good{number}.png")
        (folder / f"bad{number}.jpg").write_bytes(b"no image")
    for suffix in ("psd", "jxl", "jxl"):
        (folder / f"other{suffix}{len(list(folder.iterdir()))}.{suffix}").touch()
    for number in range(25):
        Image.new("RGB", (64, 64), (0, 0, 9 + number)).save(
            folder / f"text{number}.png"
        )
        (folder / f"text{number}.txt").write_bytes(b"caf\xe9")
    config = tmp_path / "my.json"
    config.write_text("{}")
    sets = [f"--set={key}={value}" for key, value in settings(folder).items()]
    done = CliRunner().invoke(app, ["scan", str(config), *sets])
    lines = done.stdout.splitlines()
    start = lines.index("Files with problems (14):")
    listed = lines[start + 1 :]
    assert len(listed) == 14
    for number in range(7):
        assert f"  {folder / f'good{number}.png'}: no caption" in listed
        (bad,) = [line for line in listed if f"bad{number}.jpg" in line]
        assert "skipped: " in bad
        assert "; no caption" in bad
    assert any(".jxl (2), .psd (1)" in line for line in lines)
    assert len(done.stderr.splitlines()) == 25
