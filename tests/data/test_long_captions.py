"""Captions that are cut are stated with their files, before a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from helpers.runs import make_images
from stiefel_lora._commands import app
from stiefel_lora.config import Concept
from stiefel_lora.data import CaptionedImage
from stiefel_lora.data.long_captions import long_captions

# "1girl" is two tokens, a comma is one.
LONG = ", ".join(["1girl"] * 30)
"""89 tokens."""


def counts(texts: list[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def image(name: str, *captions: str) -> CaptionedImage:
    return CaptionedImage(Path(name), captions, Concept(path=Path()))


def test_the_longest_caption_of_an_image_counts() -> None:
    images = [image("a.png", "a " * 80, "a " * 90), image("b.png", "a " * 75)]
    found = long_captions(images, 75, counts)
    assert found.tokens == {Path("a.png"): 90}
    assert found.messages() == [
        "1 caption is cut after 75 tokens: a.png (90 tokens). Set max_token_length to "
        "150."
    ]
    assert found.lines() == {
        Path("a.png"): "caption of 90 tokens, of which 75 are used"
    }


@pytest.mark.parametrize(
    ("limit", "most", "fix"),
    [
        (75, 76, " Set max_token_length to 150."),
        (75, 151, " Set max_token_length to 225."),
        (75, 400, " Set max_token_length to 225."),
        (150, 200, " Set max_token_length to 225."),
        (225, 226, ""),
        # The limit of T5 has no such steps.
        (511, 600, ""),
    ],
)
def test_the_fix_is_a_length_that_suffices(limit: int, most: int, fix: str) -> None:
    found = long_captions([image("a.png", "a " * most)], limit, counts)
    (message,) = found.messages()
    assert message.endswith(f"({most} tokens).{fix}")


def test_short_captions_are_not_tokenized() -> None:
    def never(texts: object) -> list[int]:
        raise AssertionError(texts)

    assert not long_captions([image("a.png", "a" * 75, "")], 75, never).messages()


def written(tmp_path: Path, **settings: object) -> Path:
    folder = make_images(tmp_path / "own", count=3)
    (folder / "01.txt").write_text(LONG, encoding="utf-8")
    path = tmp_path / "my.json"
    data = {"concepts": [str(folder)], "resolution": 64, "allow_upscaling": True}
    data |= settings
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


@pytest.mark.parametrize("verb", ["scan", "validate"])
def test_the_commands_name_the_files(tmp_path: Path, verb: str) -> None:
    found = CliRunner().invoke(app, [verb, str(written(tmp_path))])
    assert found.exit_code == 0, found.output
    assert (
        "1 caption is cut after 75 tokens: 01.png (89 tokens). Set max_token_length to "
        "150." in found.stdout
    )
    if verb == "scan":
        path = tmp_path / "own" / "01.png"
        assert f"{path}: caption of 89 tokens, of which 75 are used" in found.stdout
    longer = CliRunner().invoke(
        app, [verb, str(written(tmp_path, max_token_length=150))]
    )
    assert "caption is cut" not in longer.stdout


def test_the_trigger_word_counts(tmp_path: Path) -> None:
    path = written(tmp_path, trigger_word="a b c", max_token_length=150)
    (tmp_path / "own" / "01.txt").write_text(", ".join(["a"] * 75), encoding="utf-8")
    found = CliRunner().invoke(app, ["scan", str(path)])
    # 75 words, 74 commas, and 4 tokens of the trigger word.
    assert "01.png (153 tokens)" in found.stdout
