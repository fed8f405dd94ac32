"""Values of extreme length, depth or size: one message with the key, no traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stiefel_lora._exceptions import ConfigError
from stiefel_lora.config import check_paths, load_config, parse_config
from stiefel_lora.config.paths import MODEL_SETTINGS
from stiefel_lora.config.presets import find_config

PATH_KEYS = (*MODEL_SETTINGS, "output_dir", "cache_dir", "extends")
KEYS = (
    "lora_rank",
    "comment",
    "concepts",
    "optimizer",
    "samples",
    "extends",
    "nothing",
)
LONG = "must have at most 255 bytes in each file or folder name"
NUL = "must not contain a null character"


def refusal(data: dict[str, Any], *overrides: str) -> str:
    with pytest.raises(ConfigError) as error:
        check_paths(parse_config(data, overrides=overrides))
    return str(error.value)


def message(rule: str, name: str) -> str:
    """The rule and the value as a file has it, shortened."""
    text = json.dumps(name, ensure_ascii=not name.isprintable())
    return (
        f"{rule}, but got {text}."
        if len(text) <= 60
        else f"{rule}, but got {text[:57]}..."
    )


def nested(depth: int, *, objects: bool = False) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value} if objects else [value]
    return value


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("x" * 256, LONG),
        ("é" * 128, LONG),
        ("folder/" + "x" * 300, LONG),
        ("x\0y", NUL),
        ("./x\0y", NUL),
        ("~\0", NUL),
        ("\ud800", "must be valid Unicode text"),
        ("./" + "a/" * 3000, "must have at most 4096 bytes"),
    ],
)
class TestUnusablePaths:
    @pytest.mark.parametrize("key", PATH_KEYS)
    def test_of_a_key(self, name: str, rule: str, key: str) -> None:
        found = refusal({key: name})
        assert found == f"{key}: {message(rule, name)}"

    @pytest.mark.parametrize("key", ["concepts", "validation_concepts"])
    def test_of_a_folder(self, name: str, rule: str, key: str) -> None:
        found = refusal({key: [name]})
        assert found == f"{key}.0.path: {message(rule, name)}"

    def test_of_an_override(self, name: str, rule: str) -> None:
        found = refusal({}, f"vae_model_name={name}")
        assert found == f"vae_model_name: {message(rule, name)}"

    def test_of_the_file_itself(self, name: str, rule: str) -> None:
        with pytest.raises(ConfigError, match=rule):
            load_config(name)
        with pytest.raises(ConfigError, match="does not exist"):
            find_config(name)


def test_the_longest_names_that_a_disk_takes(tmp_path: Path) -> None:
    (tmp_path / ("x" * 255)).mkdir()
    config = parse_config({"concepts": "x" * 255}, folder=tmp_path)
    check_paths(config)
    assert config.concepts[0].path.name == "x" * 255


def test_a_run_name_that_no_disk_takes() -> None:
    assert parse_config({"run_name": "é" * 100}).run_name == "é" * 100
    assert "at most 245 bytes" in refusal({"run_name": "\U0001f600" * 100})
    assert "must be valid Unicode text, but got" in refusal({"run_name": "\ud800"})


class TestNesting:
    @pytest.mark.parametrize("depth", [51, 900, 20_000])
    @pytest.mark.parametrize("objects", [False, True])
    @pytest.mark.parametrize("key", KEYS)
    def test_of_a_dictionary(self, key: str, depth: int, objects: bool) -> None:
        assert refusal({key: nested(depth, objects=objects)}) == (
            f"{key}: lists and objects can be nested at most 50 levels deep. The "
            "expected form of each value is shown by stiefel-lora schema."
        )

    @pytest.mark.parametrize("depth", [900, 100_000])
    @pytest.mark.parametrize("key", KEYS)
    def test_of_a_file_and_an_override(
        self, tmp_path: Path, key: str, depth: int
    ) -> None:
        text = "[" * depth + "]" * depth
        path = tmp_path / "deep.json"
        path.write_text(f'{{"{key}": {text}}}')
        with pytest.raises(ConfigError, match="lists and objects"):
            load_config(path)
        assert refusal({}, f"{key}={text}").startswith(f"{key}: lists and objects")

    def test_of_a_base(self, tmp_path: Path) -> None:
        (tmp_path / "base.json").write_text(
            '{"comment": ' + json.dumps(nested(100)) + "}"
        )
        with pytest.raises(ConfigError, match="nested at most 50"):
            parse_config({"extends": "base.json"}, folder=tmp_path)


class TestHugeNumbers:
    @pytest.mark.parametrize("key", [*KEYS, "learning_rate", "schema_version"])
    @pytest.mark.parametrize(
        "value", [10**300, -(10**300), 10**5000], ids=["301", "-301", "5001"]
    )
    def test_of_a_dictionary(self, key: str, value: int) -> None:
        for found in (value, [value], {"a": value}):
            assert refusal({key: found}) == (
                f"{key}: integers can have at most 300 digits. Use a smaller number."
            )

    @pytest.mark.parametrize("digits", [400, 5000])
    def test_of_a_file(self, tmp_path: Path, digits: int) -> None:
        path = tmp_path / "huge.json"
        path.write_text(f'{{"lora_rank": {"1" * digits}}}')
        with pytest.raises(ConfigError, match=r"integer.* digits"):
            load_config(path)
        assert refusal({}, f"lora_rank={'1' * digits}").startswith("lora_rank")

    def test_smaller_ones_are_left_to_the_schema(self) -> None:
        assert "must be at most" in refusal({"lora_rank": 10**299})


class TestTextThatNoFileHolds:
    """Half of a surrogate pair: JSON can name it, UTF-8 cannot hold it."""

    @pytest.mark.parametrize(
        ("data", "key"),
        [
            ({"comment": "\ud800"}, "comment"),
            ({"samples": [{"prompt": "a", "negative_prompt": "\ud800"}]}, "samples.0"),
            ({"output_dir": "/x/\udcff"}, "output_dir"),
            ({"concepts": ["/x/\udcff"]}, "concepts.0.path"),
            *(
                (
                    {"optimizer": {"name": "custom", "class": "a.B", "options": given}},
                    "optimizer.options",
                )
                for given in ({"\ud800": 1}, {"x": "\ud800"}, {"x": [{"y": "\ud800"}]})
            ),
        ],
    )
    def test_is_refused(self, data: dict[str, Any], key: str) -> None:
        found = refusal(data)
        assert found.startswith(key)
        assert ": must be valid Unicode text" in found

    def test_other_text_is_not(self) -> None:
        comment = "\U0001f600 \u200b"
        assert parse_config({"comment": comment}).comment == comment


@pytest.mark.parametrize("data", [[], None, "text", ({},)])
def test_no_object_at_all(data: Any) -> None:
    with pytest.raises(
        ConfigError, match="must be a dictionary of keys and values, but got"
    ):
        parse_config(data)


def test_too_many_characters_and_too_many_entries_are_worded_apart() -> None:
    concept = {"path": "a", "keep_tags_separator": "|" * 11}
    key = "concepts.0.keep_tags_separator"
    found = refusal({"concepts": [concept]})
    assert found == f"{key}: must have at most 10 characters."
    sides = [64 * (number + 1) for number in range(17)]
    found = refusal({"extra_resolutions": sides})
    assert found == "extra_resolutions: must have at most 16 entries."
