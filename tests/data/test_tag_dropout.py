"""Modes of tag dropout, special tags and capitals, as in OneTrainer."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from stiefel_lora import ConfigError
from stiefel_lora.config import Concept, parse_config
from stiefel_lora.data.caption_variants import (
    caption_at,
    caption_variants,
    plain_caption,
)
from stiefel_lora.data.folder import CaptionedImage
from stiefel_lora.data.tag_dropout import remaining_tags

TAGS = ("red", "blue", "(green)", "old", "new")
USES = 4000


def image(caption: str, trigger: str = "", **settings: Any) -> CaptionedImage:
    concept = Concept(path=Path("cats"), **settings)
    return CaptionedImage(Path("a.png"), (caption,), concept, trigger=trigger)


def shares(caption: str = ", ".join(TAGS), **settings: Any) -> dict[str, float]:
    """Share of the uses in which each tag remains."""
    found = image(caption, **settings)
    counts: Counter[str] = Counter()
    for number in range(USES):
        counts.update(caption_at(found, number).split(", "))
    return {tag: counts[tag] / USES for tag in TAGS}


def near(value: float) -> Any:
    # Of 4,000 uses, the shares are within 0.032 (4 sigma).
    return pytest.approx(value, abs=0.032)


def test_tags_are_weighted_by_their_place_in_the_caption() -> None:
    for shuffled in (False, True):
        found = shares(
            tag_dropout_probability=0.5,
            tag_dropout_mode="RANDOM WEIGHTED",
            enable_tag_shuffling=shuffled,
        )
        expected = [1 - 0.5 * (place + 1) / 5 for place in range(5)]
        assert list(found.values()) == [near(share) for share in expected]


def test_all_tags_are_dropped_at_once() -> None:
    settings = {"tag_dropout_probability": 0.3, "tag_dropout_mode": "FULL"}
    found = image(", ".join(TAGS), keep_tags_count=2, **settings)
    texts = Counter(caption_at(found, number) for number in range(USES))
    assert set(texts) == {"red, blue", ", ".join(TAGS)}
    assert texts["red, blue"] / USES == near(0.3)


@pytest.mark.parametrize("mode", ["RANDOM", "FULL"])
def test_special_tags_stay_or_are_the_only_ones_that_go(mode: str) -> None:
    settings: dict[str, Any] = {
        "tag_dropout_probability": 0.4,
        "tag_dropout_mode": mode,
        "tag_dropout_special_tags": "blue, old, missing",
    }
    white = shares(tag_dropout_special_tags_mode="WHITELIST", **settings)
    assert white == {tag: 1 if tag in {"blue", "old"} else near(0.6) for tag in TAGS}
    black = shares(tag_dropout_special_tags_mode="BLACKLIST", **settings)
    assert black == {tag: near(0.6) if tag in {"blue", "old"} else 1 for tag in TAGS}


def test_special_tags_are_patterns_for_whole_tags() -> None:
    found = shares(
        tag_dropout_probability=0.4,
        tag_dropout_special_tags="gre+n, .*e, ol",
        tag_dropout_special_tags_mode="WHITELIST",
        tag_dropout_special_tags_regex=True,
    )
    # Brackets around a tag are ignored; "ol" is only a part of "old".
    assert [tag for tag, share in found.items() if share == 1] == ["blue", "(green)"]


def test_draws_of_the_default_mode_are_those_of_before() -> None:
    chance, same = random.Random(5), random.Random(5)
    concept = Concept(path=Path("a"), tag_dropout_probability=0.5)
    entries = list(enumerate("abcdefgh"))
    found = remaining_tags(entries, concept, chance)
    assert found == [tag for _, tag in entries if same.random() >= 0.5]
    assert chance.random() == same.random()


def test_capitals_of_each_kind() -> None:
    expected = {
        "capslock": {"OLD RED HAT"},
        "title": {"Old Red Hat"},
        "first": {"Old red hat"},
    }
    for kind, texts in expected.items():
        found = image(
            "old Red hat", caps_randomize_probability=1, caps_randomize_mode=[kind]
        )
        assert set(caption_variants(found)) == texts
    mixed = image(
        "old Red hat", caps_randomize_probability=1, caps_randomize_mode=["random"]
    )
    texts = set(caption_variants(mixed))
    assert len(texts) > 4
    assert {text.lower() for text in texts} == {"old red hat"}


def test_capitals_come_as_often_as_asked_but_not_in_the_trigger_word() -> None:
    found = image(
        "ohwx, Red, blue",
        trigger="ohwx",
        caps_randomize_probability=0.25,
        caps_randomize_mode=["capslock"],
        caps_randomize_lowercase=True,
        keep_tags_count=1,
    )
    counts: Counter[str] = Counter()
    for number in range(USES):
        counts.update(caption_at(found, number).split(", "))
    assert counts["ohwx"] == USES
    assert counts["RED"] / USES == near(0.25)
    assert counts["red"] + counts["RED"] == USES
    assert plain_caption(found) == "ohwx, red, blue"


def test_captions_without_these_settings_stay() -> None:
    assert caption_at(image("A  Cat,dog, "), 3) == "A  Cat,dog, "
    lowered = image("A  Cat,dog, ", caps_randomize_lowercase=True)
    assert plain_caption(lowered) == caption_at(lowered, 0) == "a  cat, dog"


def test_special_tags_are_checked() -> None:
    for changes, problem in (
        ({}, "is required if tag_dropout_special_tags_mode is 'WHITELIST'"),
        (
            {
                "tag_dropout_special_tags": "a, (",
                "tag_dropout_special_tags_regex": True,
            },
            r"'\(' is not a regular expression \(missing \)",
        ),
    ):
        concept = {"path": "a", "tag_dropout_special_tags_mode": "WHITELIST", **changes}
        with pytest.raises(ConfigError, match=f"0.tag_dropout_special_tags: {problem}"):
            parse_config({"concepts": [concept]})
