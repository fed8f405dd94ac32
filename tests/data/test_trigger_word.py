"""The trigger word in captions, from the folder to their shuffled versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.runs import make_images
from stiefel_lora import ConfigError
from stiefel_lora.config import Concept, TrainConfig, parse_config
from stiefel_lora.config.checks import remarks
from stiefel_lora.config.trigger import with_trigger
from stiefel_lora.data import CaptionedImage
from stiefel_lora.data.caption_variants import caption_at, is_dropped
from stiefel_lora.data.split import scan_all

WORD = "ohwx"


@pytest.mark.parametrize(
    ("text", "expected", "without"),
    [
        ("a cat", "ohwx, a cat", "a cat"),
        ("", "ohwx", ""),
        ("1girl, OHWX", "1girl, OHWX", "1girl, OHWX"),
        ("photo of ohwx.", "photo of ohwx.", "photo of ohwx."),
        ("ohwxman", "ohwx, ohwxman", "ohwxman"),
        ("[trigger], a castle", "ohwx, a castle", "a castle"),
        ("photo of [trigger] man", "photo of ohwx man", "photo of man"),
        ("a, [trigger], [trigger] b", "a, ohwx, ohwx b", "a, b"),
    ],
)
def test_a_text_gets_the_word_once(text: str, expected: str, without: str) -> None:
    assert with_trigger(text, WORD) == expected
    assert with_trigger(text, None) == without
    assert with_trigger(expected, WORD) == expected


def test_the_delimiter_separates_the_word() -> None:
    assert with_trigger("a;b", WORD, ";") == "ohwx; a;b"
    assert with_trigger("a b", WORD, " ") == "ohwx a b"
    assert with_trigger("a", "c++ (x)") == "c++ (x), a"
    assert with_trigger("c++ (x), a", "c++ (x)") == "c++ (x), a"


def test_the_setting_is_one_text() -> None:
    assert parse_config({"trigger_word": " ohwx man "}).trigger_word == "ohwx man"
    assert parse_config({"trigger_word": None}).trigger_word is None
    for value, rule in (
        ("", "must not be empty"),
        ("  ", "must not be empty"),
        ("a [trigger]", "must not contain [trigger], which stands for the word itself"),
        ("a\nb", "must not contain line breaks, tabs or control characters"),
        ("a\0", "must not contain line breaks, tabs or control characters"),
        ("a\u202eb", "must not contain line breaks, tabs or control characters"),
        (3, "must be a string in double quotes, but got 3"),
    ):
        with pytest.raises(ConfigError) as error:
            parse_config({"trigger_word": value})
        assert str(error.value).startswith(f"trigger_word: {rule}")


def config_of(tmp_path: Path, **changes: Any) -> TrainConfig:
    folder = make_images(tmp_path / "own", count=4)
    (folder / "01.txt").write_text("thing, OHWX")
    (folder / "02.txt").write_text("[trigger] thing")
    (folder / "03.txt").unlink()
    concepts = [{"path": str(folder)}]
    return parse_config({"concepts": concepts, "resolution": 32, **changes})


def captions(images: tuple[CaptionedImage, ...]) -> list[str]:
    return [image.caption for image in images]


def test_images_of_training_and_validation_get_it_but_not_regularization(
    tmp_path: Path,
) -> None:
    reg = make_images(tmp_path / "reg", count=2)
    (reg / "01.txt").write_text("a [trigger]")
    config = config_of(tmp_path, trigger_word=WORD)
    extra = [{"path": str(reg), "is_reg": True}]
    config = parse_config(
        {
            "concepts": [{"path": str(tmp_path / "own")}, *extra],
            "validation_concepts": str(tmp_path / "own"),
            "trigger_word": WORD,
        }
    )
    train, validation = scan_all(config)
    own = ["ohwx, thing 0", "thing, OHWX", "ohwx thing", "ohwx"]
    assert captions(train.images) == [*own, "thing 0", "a ohwx"]
    assert captions(validation.images) == own
    assert train.without_caption == 1
    assert train.remarks == ()


def test_without_a_word_the_placeholder_is_removed_with_a_remark(
    tmp_path: Path,
) -> None:
    train, _ = scan_all(config_of(tmp_path))
    assert captions(train.images) == ["thing 0", "thing, OHWX", "thing", ""]
    assert train.remarks == (
        "1 caption contains [trigger], which is removed because trigger_word is not "
        "set.",
    )
    (tmp_path / "own" / "02.txt").write_text("thing")
    train, _ = scan_all(config_of(tmp_path).model_copy(update={"concepts": ()}))
    assert train.remarks == ()


@pytest.mark.parametrize(
    ("caption", "word", "delimiter", "front"),
    [
        ("ohwx, a, b, c, d", WORD, ",", ["ohwx"]),
        ("a, b, photo of Ohwx, c, d", WORD, ",", ["photo of Ohwx"]),
        ("ohwx; man; a; b; c; d", "ohwx; man", ";", ["ohwx", "man"]),
        ("ohwx man a b c d", "ohwx man", " ", ["ohwx", "man"]),
    ],
)
def test_it_stays_in_front_of_shuffled_and_dropped_tags(
    caption: str, word: str, delimiter: str, front: list[str]
) -> None:
    concept = Concept(
        path=Path("x"),
        enable_tag_shuffling=True,
        tag_dropout_probability=0.5,
        tag_delimiter=delimiter,
    )
    image = CaptionedImage(Path("a.png"), (caption,), concept, trigger=word)
    split = [
        [tag.strip() for tag in caption_at(image, number).split(delimiter)]
        for number in range(30)
    ]
    assert all(tags[: len(front)] == front for tags in split)
    assert len({tuple(tags) for tags in split}) > 10
    kept = concept.model_copy(update={"keep_tags_count": 1})
    image = CaptionedImage(Path("a.png"), (caption,), kept, trigger=word)
    assert all(
        [tag.strip() for tag in caption_at(image, number).split(delimiter)][
            : len(front) + 1
        ]
        == [*front, "a"]
        for number in range(30)
    )


def test_a_dropped_caption_has_no_word() -> None:
    concept = Concept(path=Path("x"), caption_dropout_rate=1.0)
    assert is_dropped(CaptionedImage(Path("a.png"), (WORD,), concept, None, WORD), 0)


def test_prompts_get_it_and_negative_prompts_only_for_the_placeholder() -> None:
    samples = [
        {"prompt": "[trigger], a castle", "negative_prompt": "blur, [trigger]"},
        {"prompt": "a hill", "negative_prompt": "blur"},
    ]
    config = parse_config({"samples": samples, "trigger_word": WORD, "sample_every": 1})
    found = [(s.prompt, s.negative_prompt) for s in config.resolved_samples]
    assert found == [("ohwx, a castle", "blur, ohwx"), ("ohwx, a hill", "blur")]
    assert not [r for r in remarks(config) if r.key == "trigger_word"]
    bare = parse_config({"samples": samples, "sample_every": 1})
    assert [s.prompt for s in bare.resolved_samples] == ["a castle", "a hill"]
    (remark,) = [r for r in remarks(bare) if r.key == "trigger_word"]
    assert "[trigger] is removed from the prompts" in str(remark)
