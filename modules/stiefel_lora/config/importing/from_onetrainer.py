"""Import of configurations and presets of OneTrainer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .import_report import Entry
from .key_rules import Rule, Scope, left
from .key_walk import walk
from .lean_result import Imported, finished, nested
from .list_items import objects_in
from .onetrainer_data import CONCEPT, CONCEPT_DEFAULTS, SAMPLE, SAMPLE_DEFAULTS
from .onetrainer_rules import DEFAULTS, NONE_COUNTS, ROOT
from .source_files import near, read_json_value
from .unsupported import no_such_family

__all__ = ["from_onetrainer", "is_onetrainer"]

_FAMILIES = {
    "STABLE_DIFFUSION_15": "sd15",
    "STABLE_DIFFUSION_XL_10_BASE": "sdxl",
    "FLUX_DEV_1": "flux",
}
_OTHERS = {
    "ANIMA": "Anima",
    "CHROMA_1": "Chroma",
    "ERNIE": "ERNIE-Image",
    "FLUX_2": "FLUX.2",
    "FLUX_FILL_DEV_1": "FLUX.1 Fill",
    "HI_DREAM_FULL": "HiDream",
    "HUNYUAN_VIDEO": "HunyuanVideo",
    "IDEOGRAM_4": "Ideogram 4",
    "KREA_2": "Krea 2",
    "PIXART_ALPHA": "PixArt Alpha",
    "PIXART_SIGMA": "PixArt Sigma",
    "QWEN": "Qwen-Image",
    "SANA": "Sana",
    "STABLE_CASCADE_1": "Stable Cascade",
    "STABLE_DIFFUSION_15_INPAINTING": "SD 1.5 inpainting",
    "STABLE_DIFFUSION_3": "Stable Diffusion 3",
    "STABLE_DIFFUSION_35": "Stable Diffusion 3.5",
    "STABLE_DIFFUSION_XL_10_BASE_INPAINTING": "SDXL inpainting",
    "WUERSTCHEN_2": "Wuerstchen 2",
    "Z_IMAGE": "Z-Image",
}
_SIGNS = ("training_method", "model_type", "concept_file_name", "workspace_dir")
_FILES = {
    "concepts": "concept_file_name",
    "samples": "sample_definition_file_name",
}
_RENAMED = {
    "lora_layers": "layer_filter",
    "lora_layer_preset": "layer_filter_preset",
    "lora_layers_regex": "layer_filter_regex",
    "save_after": "save_every",
    "save_after_unit": "save_every_unit",
}


def is_onetrainer(data: Mapping[str, Any]) -> bool:
    """Return whether a JSON file is a configuration or preset of OneTrainer."""
    known = isinstance(data.get("model_type"), str) and data["model_type"].isupper()
    return known or sum(key in data for key in _SIGNS) > 1


def from_onetrainer(
    data: Mapping[str, Any], *, folder: Path, family: str | None = None
) -> Imported:
    """Import a configuration or preset.

    Args:
        data: keys and values.
        folder: folder of the file, for concepts and samples in other files.
        family: family of the base model, if the user has chosen it.

    Raises:
        ConfigError: If the family is not supported, or a file is not valid JSON.
    """
    found = family or _family(data)
    source = {
        _RENAMED.get(key, key): value
        for key, value in data.items()
        if key not in _FILES
    }
    rules = dict(ROOT)
    if isinstance(source.get("optimizer"), str):
        rules["optimizer"] = ROOT["optimizer.optimizer"]
    others: list[Entry] = []
    lists = {key: _listed(data, key, folder, rules, others) for key in _FILES}
    defaults = {key: value for key, value in DEFAULTS.items() if _fits(key, found)}
    if "optimizer" in rules:
        defaults.pop("optimizer.optimizer")
    scope = Scope(source, defaults, found)
    entries, flat = walk(scope, rules, none_counts=NONE_COUNTS)
    entries += others
    result = nested(flat)
    if "optimizer" in flat:
        result["optimizer"] = flat["optimizer"]
    concepts = lists["concepts"]
    result |= {"concepts": [], "validation_concepts": [], "samples": []}
    for number, item in concepts:
        is_validation = item.get("type") == "VALIDATION"
        kept = result["validation_concepts" if is_validation else "concepts"]
        target = "validation_concepts" if is_validation else "concepts"
        places = (f"concepts.{number}.", f"{target}.{len(kept)}.")
        data_of = _item(item, CONCEPT, CONCEPT_DEFAULTS, found, places, entries)
        data_of.pop("_validation", None)
        kept.append(data_of)
    for number, item in lists["samples"]:
        if item.get("enabled", True) is False:
            note = "the sample is disabled"
            entries.append(Entry(f"samples.{number}", item, "ignored", note=note))
            continue
        places = (f"samples.{number}.", f"samples.{len(result['samples'])}.")
        sample = _item(item, SAMPLE, SAMPLE_DEFAULTS[found], found, places, entries)
        result["samples"].append(sample)
    names = {new: old for old, new in _RENAMED.items() if old in data}
    entries = [_named(entry, names) for entry in entries]
    notes = [] if concepts else ["No concepts were found. Set concepts."]
    return finished({"model_type": found, **result}, entries, "OneTrainer", notes)


def _family(data: Mapping[str, Any]) -> str:
    name = str(data.get("model_type", "STABLE_DIFFUSION_15"))
    if name in _FAMILIES:
        return _FAMILIES[name]
    if name.startswith("STABLE_DIFFUSION_2"):
        raise no_such_family("Stable Diffusion 2", "OneTrainer")
    raise no_such_family(_OTHERS.get(name, name), "OneTrainer")


def _fits(key: str, family: str) -> bool:
    """Return whether a default concerns a family, so that the report is short."""
    part = key.partition(".")[0]
    if part in ("unet", "transformer"):
        return (part == "transformer") is (family == "flux")
    return not key.startswith("text_encoder_2") or family != "sd15"


def _listed(
    data: Mapping[str, Any],
    key: str,
    folder: Path,
    rules: dict[str, Rule],
    entries: list[Entry],
) -> list[tuple[int, dict[str, Any]]]:
    """Return concepts or samples of the configuration, or of the file that it names."""
    given = data.get(key)
    matters = key == "concepts"
    if given:
        return objects_in(given, key, entries, matters=matters)
    name = data.get(_FILES[key])
    if not isinstance(name, str) or not name:
        return []
    path = near(name, folder)
    if path is None:
        note = "the file does not exist. Put it beside the configuration"
        rules[_FILES[key]] = lambda scope, value: left(note, matters=matters)
        return []
    return objects_in(read_json_value(path), key, entries, matters=matters)


def _item(
    item: dict[str, Any],
    rules: Mapping[str, Rule],
    defaults: Mapping[str, Any],
    family: str,
    places: tuple[str, str],
    entries: list[Entry],
) -> dict[str, Any]:
    """Walk over a concept or sample, and append its entries.

    Args:
        item: concept or sample.
        rules: rules of its keys.
        defaults: defaults of OneTrainer.
        family: family of the base model.
        places: prefixes of keys in the source and of settings.
        entries: entries of the report.
    """
    scope = Scope(item, defaults, family)
    found, data = walk(scope, rules, prefix=places[0], target=places[1])
    entries += found
    return data


def _named(entry: Entry, names: Mapping[str, str]) -> Entry:
    """Return the entry by its key in the source, without settings of the import."""
    sets = tuple((key, value) for key, value in entry.sets if "._" not in key)
    return dataclasses.replace(entry, key=names.get(entry.key, entry.key), sets=sets)
