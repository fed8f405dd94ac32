"""Every key of a source gets an entry, and the result is a valid configuration."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stiefel_lora.config import load_config
from stiefel_lora.config.importing import Imported, import_file
from stiefel_lora.config.importing.ai_toolkit_data import DATASET as AI_DATASET
from stiefel_lora.config.importing.ai_toolkit_rules import PROCESS
from stiefel_lora.config.importing.from_ai_toolkit import from_ai_toolkit
from stiefel_lora.config.importing.from_kohya_gui import (
    _NETWORK_ARGS,
    GUI_RULES,
    RENAMED,
    from_kohya_gui,
)
from stiefel_lora.config.importing.from_onetrainer import from_onetrainer
from stiefel_lora.config.importing.from_sd_scripts import ROOT_RULES, from_sd_scripts
from stiefel_lora.config.importing.key_rules import Scope, left
from stiefel_lora.config.importing.key_walk import UNKNOWN, walk
from stiefel_lora.config.importing.onetrainer_data import CONCEPT, SAMPLE
from stiefel_lora.config.importing.onetrainer_rules import ROOT as ONETRAINER
from stiefel_lora.config.importing.sd_data import DATASET, SUBSET

LISTS = Path(__file__).parent / "importing_keys"
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 3000),
    st.floats(-10, 2000, allow_nan=False),
    st.sampled_from(["", "0", "AdamW", "cosine", "fp16", "a/b", "1,2", "x y"]),
    st.lists(st.one_of(st.integers(0, 9), st.text(max_size=3)), max_size=2),
    st.dictionaries(st.sampled_from(["a", "train", "path"]), st.booleans(), max_size=2),
)
PARTS = (
    "datasets",
    "general",
    "sample_prompts",
    "sample_sampler",
    "network_args",
    "optimizer_args",
)


def names(program: str) -> list[str]:
    lines = (LISTS / f"{program}.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    return lines[1:]


def leaves_of(value: Any, above: str = "") -> Iterator[str]:
    """Keys of all values that are no objects, with indices of lists of objects."""
    items: Any = value.items() if isinstance(value, Mapping) else enumerate(value)
    for name, inner in items:
        key = f"{above}.{name}" if above else str(name)
        if isinstance(value, list) and inner == {}:
            continue
        objects = isinstance(inner, list) and any(isinstance(i, dict) for i in inner)
        if objects or (isinstance(inner, Mapping) and inner):
            yield from leaves_of(inner, key)
        else:
            yield key


def unexplained(source: Mapping[str, Any], found: Imported) -> list[str]:
    """Keys of the source without an entry, of themselves or of what contains them."""
    keys = {entry.key for entry in found.report.entries if not entry.is_default}
    return [
        leaf
        for leaf in leaves_of(source)
        if not any(f"{leaf}.".startswith(f"{key}.") for key in keys)
        # Arguments in one text have an entry each.
        and not any(key.startswith(f"{leaf}.") for key in keys)
    ]


def check(source: dict[str, Any], found: Imported, folder: Path) -> None:
    assert not unexplained(source, found)
    path = folder / "config.json"
    path.write_text(json.dumps(found.data), encoding="utf-8")
    load_config(path)
    for entry in found.report.entries:
        assert entry.note or entry.outcome != "ignored", f"{entry.key} without a reason"


@pytest.mark.parametrize(
    ("program", "known"),
    [
        ("sd_scripts", {*ROOT_RULES, *SUBSET, *PARTS}),
        (
            "kohya_ss",
            {*ROOT_RULES, *SUBSET, *PARTS, *GUI_RULES, *RENAMED, *_NETWORK_ARGS}
            | {"LoRA_type"},
        ),
        ("ai_toolkit", {*PROCESS, *(f"datasets.{key}" for key in AI_DATASET)}),
        (
            "onetrainer",
            {
                *ONETRAINER,
                *(f"concepts.{key}" for key in CONCEPT),
                *(f"samples.{key}" for key in SAMPLE),
            },
        ),
        (
            "sd_scripts_dataset",
            {f"datasets.{key}" for key in DATASET}
            | {f"subsets.{key}" for key in SUBSET},
        ),
    ],
)
def test_every_key_of_the_program_has_a_rule(program: str, known: set[str]) -> None:
    def has_rule(key: str) -> bool:
        # A rule for a key includes everything below it.
        parts = key.split(".")
        above = {".".join(parts[: number + 1]) for number in range(len(parts))}
        return bool(above & known)

    assert [key for key in names(program) if not has_rule(key)] == []


def test_a_key_without_a_rule_is_reported_and_matters() -> None:
    entries, data = walk(Scope({"a": {"b": 1, "c": 2}}, {}, "sdxl"), {})
    assert [(e.key, e.note, e.matters) for e in entries] == [
        ("a.b", UNKNOWN, True),
        ("a.c", UNKNOWN, True),
    ]
    assert data == {}


def test_a_rule_that_cannot_read_a_value_does_not_end_the_import() -> None:
    def rule(scope: Scope, value: Any) -> Any:
        return left(str(float(value)))

    entries, _ = walk(Scope({"a": "x"}, {}, "sdxl"), {"a": rule})
    assert entries[0].outcome == "ignored"
    assert entries[0].matters


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*names("sd_scripts"), "surprise", "another"]),
        VALUES,
        max_size=25,
    ),
    st.sampled_from(["sdxl", "sd15", "flux"]),
)
def test_any_options_of_sd_scripts(
    tmp_path_factory: pytest.TempPathFactory, source: dict[str, Any], family: str
) -> None:
    for key in ("config_file", "dataset_config", "v2", "model_type"):
        source.pop(key, None)
    folder = tmp_path_factory.mktemp("sd")
    read = _importer(folder, family)
    found = read(source)
    assert read(source) == found
    # Sections of a TOML file have no meaning, so their names are not keys.
    plain = {key: value for key, value in source.items() if not isinstance(value, dict)}
    check(plain, found, folder)


def _importer(folder: Path, family: str) -> Callable[[dict[str, Any]], Imported]:
    return lambda source: from_sd_scripts(source, folder=folder, family=family)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*names("kohya_ss"), "surprise"]), VALUES, max_size=25
    )
)
def test_any_configuration_of_kohya_ss(
    tmp_path_factory: pytest.TempPathFactory, source: dict[str, Any]
) -> None:
    for key in ("dataset_config", "v2", "sd3_checkbox"):
        source.pop(key, None)
    source.pop("additional_parameters", None)
    folder = tmp_path_factory.mktemp("gui")
    plain = {key: value for key, value in source.items() if not isinstance(value, dict)}
    check(plain, from_kohya_gui(plain, folder=folder), folder)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "subsets": st.lists(
                    st.dictionaries(
                        st.sampled_from([*SUBSET, "odd"]), VALUES, max_size=6
                    ),
                    max_size=2,
                )
            },
            optional={key: VALUES for key in sorted(DATASET)[:6]},
        ),
        max_size=3,
    )
)
def test_any_dataset_file(
    tmp_path_factory: pytest.TempPathFactory, datasets: list[dict[str, Any]]
) -> None:
    folder = tmp_path_factory.mktemp("data")
    source = {"datasets": datasets}
    check(source, from_sd_scripts(source, folder=folder, family="sdxl"), folder)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*names("onetrainer"), "surprise"]), VALUES, max_size=25
    )
)
def test_any_configuration_of_onetrainer(
    tmp_path_factory: pytest.TempPathFactory, flat: dict[str, Any]
) -> None:
    source: dict[str, Any] = {}
    lists: dict[str, dict[str, Any]] = {"concepts": {}, "samples": {}}
    for key, value in flat.items():
        first, _, rest = key.partition(".")
        if first in lists:
            _put(lists[first], rest, value)
        elif first != "model_type":
            _put(source, key, value)
    source |= {name: [item] for name, item in lists.items() if item}
    folder = tmp_path_factory.mktemp("ot")
    for name in ("concept_file_name", "sample_definition_file_name"):
        source.pop(name, None)
    check(source, from_onetrainer(source, folder=folder, family="sdxl"), folder)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*names("ai_toolkit"), "surprise"]), VALUES, max_size=25
    )
)
def test_any_job_of_ai_toolkit(
    tmp_path_factory: pytest.TempPathFactory, flat: dict[str, Any]
) -> None:
    process: dict[str, Any] = {}
    dataset: dict[str, Any] = {}
    for key, value in flat.items():
        if key.startswith("datasets."):
            dataset[key.partition(".")[2]] = value
        elif not key.startswith(("sample.samples", "sample.prompts")):
            _put(process, key, value)
    process |= {"datasets": [dataset]} if dataset else {}
    source = {"job": "extension", "config": {"name": "a", "process": [process]}}
    folder = tmp_path_factory.mktemp("ai")
    found = from_ai_toolkit(source, path=folder / "a.yaml", family="sdxl")
    check(source, found, folder)


def _put(data: dict[str, Any], key: str, value: Any) -> None:
    first, dot, rest = key.partition(".")
    if dot:
        inner = data.setdefault(first, {})
        if isinstance(inner, dict):
            _put(inner, rest, value)
    else:
        data[first] = value


def test_the_result_is_lean_and_names_the_differences(tmp_path: Path) -> None:
    pytest.importorskip("tomllib", reason="tomllib is new in 3.11")
    path = tmp_path / "a.toml"
    path.write_text(
        "dim_from_weights = true\nresolution = 512\nodd = 1\n", encoding="utf-8"
    )
    found = import_file(path)
    assert found.data["comment"].endswith("Training differs in: dim_from_weights, odd.")
    assert "batch_size" not in found.data
    lines = "\n".join(found.report.lines())
    assert "! odd = 1: unknown key" in lines
    assert "learning_rate = 2e-06 (default) -> learning_rate = 2e-06" in lines


def test_a_report_contains_no_secrets(tmp_path: Path) -> None:
    source = {
        "huggingface_token": "hf_123",
        "wandb_api_key": "hf_123",
        "max_token_length": 75,
    }
    found = from_sd_scripts(source, folder=tmp_path, family="sdxl")
    text = "\n".join(found.report.lines()) + json.dumps(found.data)
    assert "hf_123" not in text
    assert "huggingface_token = (hidden)" in text
    assert "max_token_length = 75" in text
