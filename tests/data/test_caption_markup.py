"""Wildcards, separators and extensions of captions, as in sd-scripts."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from helpers.runs import make_images
from stiefel_lora import ConfigError
from stiefel_lora._commands import app
from stiefel_lora.config import Concept, parse_config
from stiefel_lora.data import CaptionedImage, scan_all, scan_concepts
from stiefel_lora.data.caption_files import changes_by, contents, write_caption
from stiefel_lora.data.caption_variants import (
    caption_at,
    caption_variants,
    plain_caption,
    variation_count,
)
from stiefel_lora.data.captions import read_caption
from stiefel_lora.data.long_captions import long_captions
from stiefel_lora.data.plan import plan_of
from stiefel_lora.data.wildcards import with_choices

DRAWS = 600


def image(*captions: str, **settings: Any) -> CaptionedImage:
    return CaptionedImage(Path("a.png"), captions, Concept(path=Path("x"), **settings))


def as_in_sd_scripts(caption: str, chance: random.Random, **settings: Any) -> str:
    """The order of its steps: wildcards, kept tags, shuffling, dropping, separators."""
    if settings.get("enable_wildcard"):
        if "\n" in caption:
            caption = chance.choice(caption.split("\n"))
        text, place = "", 0
        marked = caption.replace("{{", "<<").replace("}}", ">>")
        for found in re.finditer(r"\{([^}]+)\}", marked):
            text += marked[place : found.start()]
            text += chance.choice(found[1].split("|"))
            place = found.end()
        caption = (text + marked[place:]).replace("<<", "{").replace(">>", "}")
    mark = settings.get("keep_tags_separator")
    first, middle, last = "", caption, ""
    count = settings.get("keep_tags_count", 0)
    if mark and mark in caption:
        first, middle = caption.split(mark, 1)
        count = 0
        if mark in middle:
            middle, last = middle.split(mark, 1)

    def tags(text: str) -> list[str]:
        return [tag.strip() for tag in text.split(",") if tag.strip()]

    fixed, free = tags(first), tags(middle)
    fixed, free = [*fixed, *free[:count]], free[count:]
    if settings.get("enable_tag_shuffling"):
        chance.shuffle(free)
    rate = settings.get("tag_dropout_probability", 0)
    free = [tag for tag in free if chance.random() >= rate]
    caption = ", ".join([*fixed, *free, *tags(last)])
    second = settings.get("secondary_separator")
    return caption.replace(second, ",") if second else caption


SHUFFLED = {"enable_tag_shuffling": True}


@pytest.mark.parametrize(
    ("caption", "settings"),
    [
        ("a {red|blue|old} cat, b", {"enable_wildcard": True}),
        ("{a|b}, {c|d}, e", {"enable_wildcard": True, **SHUFFLED}),
        ("a, b\nc, d", {"enable_wildcard": True, **SHUFFLED}),
        ("{{x}}, {a|{{b}} c}", {"enable_wildcard": True}),
        ("a, b ||| c, d", {"keep_tags_separator": "|||", **SHUFFLED}),
        ("a ||| c, d ||| y, z", {"keep_tags_separator": "|||", **SHUFFLED}),
        (
            "a ||| c, d ||| z",
            {"keep_tags_separator": "|||", "tag_dropout_probability": 0.5},
        ),
        ("a, b, c", {"keep_tags_separator": "|||", "keep_tags_count": 1, **SHUFFLED}),
        (
            "a, b;;;c, d",
            {"secondary_separator": ";;;", "tag_dropout_probability": 0.5, **SHUFFLED},
        ),
        (
            "{one|two} ||| b;;;c, d ||| z",
            {
                "enable_wildcard": True,
                "keep_tags_separator": "|||",
                "secondary_separator": ";;;",
                **SHUFFLED,
            },
        ),
    ],
    ids=str,
)
def test_captions_are_those_of_sd_scripts_equally_often(
    caption: str, settings: dict[str, Any]
) -> None:
    changed = image(caption, **settings)
    found = Counter(caption_at(changed, number) for number in range(DRAWS))
    chance = random.Random(0)
    expected = Counter(
        as_in_sd_scripts(caption, chance, **settings) for _ in range(20 * DRAWS)
    )
    assert found.keys() == expected.keys()
    for text, count in found.items():
        share = expected[text] / (20 * DRAWS)
        # Five standard deviations of a binomial count.
        assert abs(count - DRAWS * share) <= 5 * (DRAWS * share * (1 - share)) ** 0.5
    # Only a function of the caption and the number.
    again = [caption_at(image(caption, **settings), number) for number in range(9)]
    assert again == [caption_at(changed, number) for number in range(9)]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("a {red|blue} cat", "a red cat"),
        ("{a} {|b} {c|}", "a  c"),
        ("{}", "{}"),
        ("{a|b", "{a|b"),
        ("{{a|b}}", "{a|b}"),
        ("{{{a|b} c}}", "{a c}"),
        ("x\ny", "x"),
        ("\n\n x \n\n", "\n\n x \n\n"),
        ("\ue000 {\ue001|b}", "\ue000 \ue001"),
    ],
)
def test_braces_that_are_no_wildcard_stay(text: str, first: str) -> None:
    assert with_choices(text, lambda options: options[0]) == first


def test_nothing_changes_without_the_settings() -> None:
    text = "a {b|c} ||| d;;;e\nsecond line"
    assert caption_at(image(text), 3) == text
    assert plain_caption(image(text)) == text
    assert variation_count(image(text).concept, 1) == 1
    # The separator is removed even if nothing is shuffled; sd-scripts keeps it then.
    assert caption_at(image("a ||| b", keep_tags_separator="|||"), 0) == "a, b"
    assert caption_at(image("a;;;b", secondary_separator=";;;"), 0) == "a,b"


def test_validation_uses_the_first_options() -> None:
    settings = {
        "enable_wildcard": True,
        "keep_tags_separator": "|||",
        "secondary_separator": ";;;",
        "tag_dropout_probability": 1,
        **SHUFFLED,
    }
    changed = image("{a|b} ||| c;;;d, e ||| z\nsecond", **settings)
    assert plain_caption(changed) == "a, c,d, e, z"
    plan = plan_of(parse_config({}), training=False, encodes_text=True)
    assert plan.caption(changed, 7) == "a, c,d, e, z"


def test_versions_with_wildcards_are_bounded() -> None:
    many = "{" + "|".join("abcdefghijklmnop") + "}"
    changed = image(many, enable_wildcard=True)
    assert variation_count(changed.concept, 1) == 8
    assert 4 <= len(caption_variants(changed)) <= 8
    lines = image(*"abcdefghijkl", enable_wildcard=True)
    assert set(caption_variants(lines)) == set("abcdefghijkl")


def test_the_trigger_word_is_in_every_line(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "own", count=1)
    (folder / "00.txt").write_text("a {red|blue} cat\n\na dog, ohwx\n")
    settings = {"path": str(folder), "enable_wildcard": True, **SHUFFLED}
    config = parse_config({"concepts": [settings], "trigger_word": "ohwx"})
    (found,) = scan_all(config)[0].images
    assert found.caption == "ohwx, a {red|blue} cat\na dog, ohwx"
    texts = {caption_at(found, number) for number in range(40)}
    assert texts == {"ohwx, a red cat", "ohwx, a blue cat", "ohwx, a dog"}


def test_the_longest_option_counts() -> None:
    changed = image("a {b|b b b b}", enable_wildcard=True, text_variations=50)
    found = long_captions([changed], 3, lambda texts: [len(t.split()) for t in texts])
    assert found.tokens == {Path("a.png"): 5}
    split = image("a b ||| c", keep_tags_separator="|||")
    found = long_captions([split], 3, lambda texts: [len(t.split()) for t in texts])
    assert not found.tokens


# Extension ----------------------------------------------------------------------------


def captioned(folder: Path) -> Path:
    make_images(folder, count=3)
    (folder / "00.caption").write_text("own 0")
    (folder / "01.CAPTION").write_text("own 1")
    return folder


@pytest.mark.parametrize("given", [".caption", "caption"])
def test_captions_have_the_extension(tmp_path: Path, given: str) -> None:
    folder = captioned(tmp_path)
    concept = Concept(path=folder, caption_extension=given)
    assert concept.caption_extension == ".caption"
    found = scan_concepts([concept])
    assert [i.caption for i in found.images] == ["own 0", "own 1", ""]
    assert found.uncaptioned == (folder / "02.png",)
    (remark,) = found.remarks
    assert remark.endswith("not used: .txt (1). Rename the caption of 02.png to "
                           "02.caption.")  # fmt: skip
    usual = scan_concepts([Concept(path=folder)])
    assert [i.caption for i in usual.images] == ["thing 0", "thing 1", "thing 2"]


def test_an_extension_of_two_parts(tmp_path: Path) -> None:
    make_images(tmp_path, count=1)
    (tmp_path / "00.wd.txt").write_text("tags")
    concept = Concept(path=tmp_path, caption_extension=".wd.txt")
    assert scan_concepts([concept]).images[0].caption == "tags"
    assert read_caption(tmp_path / "00.png", extension=".wd.txt") == "tags"


def test_captions_are_written_with_the_extension(tmp_path: Path) -> None:
    folder = captioned(tmp_path)
    path = folder / "02.png"
    assert write_caption(path, "new", ".caption")
    assert (folder / "02.caption").read_text() == "new\n"
    assert (folder / "02.txt").read_text() == "thing 2"
    (change,) = changes_by(str.upper, {path: "new"}, ".caption")
    assert change.path == folder / "02.caption"
    assert list(contents([path], ".caption")) == [folder / "02.caption"]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("a/b", "must be a file name extension such as .caption"),
        ("..", "must be a file name extension such as .caption"),
        (".", "must be a file name extension such as .caption"),
        ("png", "must be the extension of text files, not of images"),
        ("", "must not be empty"),
    ],
)
def test_what_is_no_extension(tmp_path: Path, given: str, problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config({"concepts": [{"path": "a", "caption_extension": given}]})
    assert str(error.value).startswith(f"concepts.0.caption_extension: {problem}")
    if given:
        words = ["caption", str(tmp_path), "--model", "x", "--extension", given]
        found = CliRunner().invoke(app, words)
        assert found.exit_code == 2
        assert problem in found.stderr
