from __future__ import annotations

from collections import Counter
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stiefel_lora.config import Concept
from stiefel_lora.data import CaptionedImage
from stiefel_lora.data.augmentation import (
    Augmentation,
    augmentation_at,
    augmentation_count,
)
from stiefel_lora.data.balance import rates_of
from stiefel_lora.data.caption_variants import (
    caption_at,
    caption_variants,
    is_dropped,
)
from stiefel_lora.data.framing import cover_frame

NUMBERS = st.integers(0, 10_000)


def image(*captions: str, **settings: Any) -> CaptionedImage:
    return CaptionedImage(Path("a.png"), captions, Concept(path=Path("x"), **settings))


@given(NUMBERS, st.integers(0, 5))
def test_shuffling_keeps_all_tags_and_the_first_in_place(
    number: int, keep: int
) -> None:
    tags = ["a", "b", "c", "d"]
    changed = image("a,b, c ,d", enable_tag_shuffling=True, keep_tags_count=keep)
    found = caption_at(changed, number).split(", ")
    assert sorted(found) == tags
    assert found[:keep] == tags[:keep]
    assert caption_at(changed, number) == ", ".join(found)


@pytest.mark.parametrize(
    ("caption", "delimiter"),
    [("a, b,", ","), (",a,,b, ,", ","), (" a  b ", " "), ("a;b;;", ";")],
)
def test_empty_tags_are_no_tags(caption: str, delimiter: str) -> None:
    changed = image(caption, tag_delimiter=delimiter, enable_tag_shuffling=True)
    joined = {
        text.replace(" ", "") for text in map(partial(caption_at, changed), range(20))
    }
    mark = delimiter.strip()
    assert joined == {f"a{mark}b", f"b{mark}a"}
    kept = image(caption, tag_delimiter=delimiter, keep_tags_count=1,
                   tag_dropout_probability=1)  # fmt: skip
    assert caption_at(kept, 0) == "a"


def test_a_caption_that_nothing_shuffles_stays_as_it_is() -> None:
    assert caption_at(image("a, b,"), 0) == "a, b,"
    plain = image("a, b, c", enable_tag_shuffling=True)
    # Captions without empty tags come in the orders of before.
    assert [caption_at(plain, n) for n in range(3)] == [
        "b, c, a",
        "a, c, b",
        "a, c, b",
    ]


@given(NUMBERS)
def test_dropped_tags_leave_the_kept_ones_and_the_order(number: int) -> None:
    changed = image("a b c d", tag_delimiter=" ", keep_tags_count=1,
                      tag_dropout_probability=0.5)  # fmt: skip
    found = caption_at(changed, number).split(" ")
    assert found[0] == "a"
    assert found == sorted(found)


def test_shuffled_tags_come_in_every_order() -> None:
    changed = image("a, b, c, d", enable_tag_shuffling=True)
    # Of 24 orders one is missing from 400 with a chance of 1e-6.
    assert len({caption_at(changed, number) for number in range(400)}) == 24


def test_tags_are_dropped_as_often_as_asked() -> None:
    changed = image("a, b, c", tag_dropout_probability=0.2, keep_tags_count=1)
    texts = [caption_at(changed, number).split(", ") for number in range(2000)]
    left = sum(len(tags) - 1 for tags in texts)
    # Five standard deviations of a binomial count.
    assert abs(left - 4000 * 0.8) <= 5 * (4000 * 0.8 * 0.2) ** 0.5


def test_all_tags_go_and_none_goes() -> None:
    assert caption_at(image("a, b", tag_dropout_probability=1), 3) == ""
    assert caption_at(image("a,  b."), 3) == "a,  b."


@pytest.mark.parametrize("rate", [0.0, 0.1, 1.0])
def test_captions_are_dropped_as_often_as_asked(rate: float) -> None:
    changed = image("a", caption_dropout_rate=rate)
    dropped = sum(is_dropped(changed, number) for number in range(4000))
    # Five standard deviations of a binomial count.
    assert abs(dropped - 4000 * rate) <= 5 * (4000 * rate * (1 - rate)) ** 0.5


def test_versions_of_a_caption_are_bounded() -> None:
    assert caption_variants(image("a, b")) == ["a, b"]
    tags = ", ".join("abcdefghij")
    assert len(caption_variants(image(tags, enable_tag_shuffling=True))) == 8
    three = image(tags, enable_tag_shuffling=True, text_variations=3)
    assert len(caption_variants(three)) == 3
    assert caption_variants(image("a", caption_dropout_rate=0.1)) == ["a", ""]
    assert caption_variants(image("one", "two")) == ["one", "two"]


def look(number: int, name: str = "a.png", **settings: Any) -> Augmentation:
    concept = Concept(path=Path("x"), **settings)
    return augmentation_at(name, (300, 200), (64, 64), concept, number)


def test_nothing_changes_unless_asked() -> None:
    assert look(5) == Augmentation(cover_frame((300, 200), (64, 64)))
    assert augmentation_count(Concept(path=Path("x"))) == 1


def test_mirrored_every_other_time() -> None:
    found = [look(n, enable_random_flip=True).mirrored for n in range(6)]
    assert found in ([True, False] * 3, [False, True] * 3)
    first = {look(0, f"{n}.png", enable_random_flip=True).mirrored for n in range(20)}
    assert first == {True, False}


@given(NUMBERS)
def test_jitter_stays_inside_and_colors_within_their_strength(number: int) -> None:
    changed = look(
        number,
        enable_crop_jitter=True,
        random_brightness_max_strength=0.2,
        random_hue_max_strength=0.1,
    )
    left, _, right, _ = changed.frame.box
    assert 0 <= left < right <= changed.frame.scaled[0]
    assert abs(changed.brightness - 1) <= 0.2005
    assert abs(changed.hue) <= 0.1005
    assert (changed.contrast, changed.saturation) == (1, 1)
    assert not changed.mirrored


def test_crops_differ_and_versions_are_bounded() -> None:
    lefts = {look(n, enable_crop_jitter=True).frame.left for n in range(8)}
    assert len(lefts) > 4
    assert augmentation_count(Concept(path=Path("x"), enable_crop_jitter=True)) == 4
    two = Concept(path=Path("x"), enable_crop_jitter=True, image_variations=2)
    assert augmentation_count(two) == 2


def folders(*settings: tuple[int, dict[str, Any]]) -> list[CaptionedImage]:
    concepts = [(n, Concept(path=Path("x"), **s)) for n, s in settings]
    return [
        CaptionedImage(Path(f"{i}.png"), ("",), concept)
        for count, concept in concepts
        for i in range(count)
    ]


def test_repeats_and_balancing() -> None:
    images = folders(
        (2, {"repeats": 3}),
        (4, {"balancing": 0.1}),
        (5, {"balancing": 12, "balancing_strategy": "SAMPLES"}),
    )
    expected = {Fraction(3): 2, Fraction(1, 10): 4, Fraction(12, 5): 5}
    assert Counter(rates_of(images)) == expected


def test_regularization_comes_up_as_often_as_all_others() -> None:
    images = folders((3, {"repeats": 4}), (8, {"is_reg": True}))
    assert sum(rates_of(images)[3:]) == 12
    own = folders((3, {}), (8, {"is_reg": True, "repeats": 2}))
    assert rates_of(own)[3:] == [2] * 8
    assert rates_of(folders((2, {"is_reg": True}))) == [1, 1]


def test_several_regularization_folders_share_these_uses() -> None:
    reg = {"is_reg": True}
    rates = rates_of(folders((3, {"repeats": 4}), (8, reg), (4, reg)))
    assert rates[3:] == [1] * 12
    rates = rates_of(folders((6, {}), (1, reg), (1, reg), (1, {**reg, "repeats": 5})))
    # The last one has repeats of its own, and counts as one of the others.
    assert rates[6:] == [Fraction(11, 2), Fraction(11, 2), 5]
    assert rates_of(folders((2, reg), (3, reg))) == [1] * 5


@pytest.mark.parametrize("count", [3, 20, 100])
@pytest.mark.parametrize("shuffled", [False, True])
def test_all_lines_of_a_prompt_file_are_used(count: int, shuffled: bool) -> None:
    lines = tuple(f"line {number}, tag" for number in range(count))
    concept = Concept(path=Path("a"), enable_tag_shuffling=shuffled, keep_tags_count=1)
    texts = caption_variants(CaptionedImage(Path("a.png"), lines, concept))
    assert {text.partition(",")[0] for text in texts} == {
        line.partition(",")[0] for line in lines
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"repeats": 2, "balancing": 0.5}, "Remove one of them"),
        ({"prompt_source": "concept"}, "is required if prompt_source"),
        ({"prompt_path": "a.txt"}, "has no effect if prompt_source is 'sample'"),
    ],
)
def test_settings_that_contradict_each_other(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        Concept(path=Path("x"), **settings)
