"""Prefixes of captions of sd-scripts, compared with the captions that it encodes."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import pytest

from stiefel_lora.config import parse_config
from stiefel_lora.config.importing import Imported
from stiefel_lora.config.importing.from_sd_scripts import from_sd_scripts
from stiefel_lora.data.caption_variants import caption_variants
from stiefel_lora.data.folder import CaptionedImage, Scan
from stiefel_lora.data.trigger_captions import add_trigger

CAPTION = "red, green, blue"


def _imported(*subsets: dict[str, Any]) -> Imported:
    named = [{"image_dir": f"d{n}", **subset} for n, subset in enumerate(subsets)]
    source = {"datasets": [{"subsets": named}]}
    return from_sd_scripts(source, folder=Path(), family="sdxl")


def _lost(found: Imported) -> list[str]:
    return [entry.key for entry in found.report.differences]


def _there(subset: dict[str, Any]) -> set[str]:
    """All captions that sd-scripts can make: the prefix, a blank and the caption."""
    caption = f"{subset['caption_prefix']} {CAPTION}"
    if not subset.get("shuffle_caption"):
        return {" ".join(caption.split())}
    separator = subset.get("keep_tokens_separator")
    if separator and separator in caption:
        front, _, back = caption.partition(separator)
        fixed = [tag.strip() for tag in front.split(",") if tag.strip()]
        others = [tag.strip() for tag in back.split(",") if tag.strip()]
    else:
        tags = [tag.strip() for tag in caption.split(",")]
        count = subset.get("keep_tokens", 0)
        fixed, others = tags[:count], tags[count:]
    return {", ".join([*fixed, *order]) for order in itertools.permutations(others)}


def _here(found: Imported) -> set[str]:
    config = parse_config(found.data)
    concept = config.concepts[0].model_copy(update={"text_variations": 40})
    image = CaptionedImage(Path("a.png"), (CAPTION,), concept)
    (named,) = add_trigger(Scan((image,), ()), config.trigger_word).images
    random.seed(0)
    return set(caption_variants(named))


EXACT = [
    {"caption_prefix": "ohwx,"},
    {"caption_prefix": "ohwx, ", "shuffle_caption": True, "keep_tokens": 1},
    {"caption_prefix": "ohwx,", "shuffle_caption": True, "keep_tokens": 2},
    {"caption_prefix": "1girl, ohwx,", "shuffle_caption": True, "keep_tokens": 3},
    {
        "caption_prefix": "1girl, ohwx |||",
        "shuffle_caption": True,
        "keep_tokens_separator": "|||",
    },
]


@pytest.mark.parametrize("subset", EXACT)
def test_captions_are_those_of_sd_scripts(subset: dict[str, Any]) -> None:
    found = _imported(subset)
    assert _here(found) == _there(subset)
    assert _lost(found) == []
    word = found.data["trigger_word"]
    assert not any(mark in word for mark in "|;")
    for key, value in _reported(found).items():
        assert found.data["concepts"][0].get(key, 0) == value


def _reported(found: Imported) -> dict[str, Any]:
    entries = (e for e in found.report.entries if e.key.endswith("keep_tokens"))
    sets = (pair for entry in entries for pair in entry.sets)
    return {key.rpartition(".")[2]: value for key, value in sets}


DIFFERENT = [
    ({"caption_prefix": "photo of"}, "photo of", "no comma"),
    (
        {"caption_prefix": "ohwx,", "shuffle_caption": True},
        "ohwx",
        "keep_tokens is below the number",
    ),
    (
        {"caption_prefix": "a |||", "keep_tokens_separator": "|||"},
        "a",
        "leaves the separator",
    ),
    (
        {"caption_prefix": "a ||| b,", "keep_tokens_separator": "|||"},
        None,
        "cannot contain separators",
    ),
    (
        {"caption_prefix": "a;;;b,", "secondary_separator": ";;;"},
        None,
        "cannot contain separators",
    ),
    (
        {"caption_prefix": "{a|b},", "enable_wildcard": True},
        None,
        "cannot contain wildcards",
    ),
    ({"caption_prefix": " , "}, None, "contains no word"),
]


@pytest.mark.parametrize(("subset", "word", "problem"), DIFFERENT)
def test_what_is_not_the_same_is_marked(
    subset: dict[str, Any], word: str | None, problem: str
) -> None:
    found = _imported(subset)
    assert found.data.get("trigger_word") == word
    (entry,) = found.report.differences
    assert entry.key == "datasets.0.subsets.0.caption_prefix"
    assert problem in entry.note
    assert dict(entry.sets) == ({"trigger_word": word} if word else {})


WORD = {"caption_prefix": "ohwx,"}
REG = {"is_reg": True}


@pytest.mark.parametrize(
    ("subsets", "word", "lost"),
    [
        ([WORD, WORD], "ohwx", 0),
        ([WORD, REG], "ohwx", 0),
        ([WORD, {}], None, 1),
        ([WORD, {"caption_prefix": "sks,"}], None, 2),
        ([WORD, {**WORD, **REG}], "ohwx", 2),
        ([{}, {**WORD, **REG}], None, 1),
    ],
)
def test_a_prefix_of_one_folder_does_not_reach_the_others(
    subsets: list[dict[str, Any]], word: str | None, lost: int
) -> None:
    found = _imported(*subsets)
    assert found.data.get("trigger_word") == word
    assert len(_lost(found)) == lost
