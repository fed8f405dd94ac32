"""Import of configurations of kohya's sd-scripts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..._exceptions import ConfigError
from ..foreign import reasons as why
from ..foreign import sd_scripts
from .caption_prefixes import join_prefixes
from .import_report import Entry
from .key_rules import Rule, Scope, without_counterpart
from .key_walk import apply, walk
from .lean_result import Imported, finished, nested
from .list_items import objects_in
from .sample_files import samples_in
from .sampler_names import sampler_rule
from .sd_data import (
    DATASET,
    DATASET_DEFAULTS,
    FOLDERS,
    SUBSET,
    SUBSET_DEFAULTS,
)
from .sd_family import family_of, options_without_lora, trains_no_lora
from .sd_levels import overridden, same_for_all, unlike_first
from .sd_objective import FLUX_DEFAULTS, OBJECTIVE
from .sd_training import (
    DEFAULTS,
    NETWORK_ARGS,
    TRAINING,
    argument_rules,
    parsed_arguments,
)
from .source_files import near, read_source

__all__ = ["ROOT_RULES", "from_sd_scripts", "is_sd_scripts"]

_NAME = "sd-scripts"
_SAMPLER = "ddim"
_PARTS = ("datasets", "general", "launcher", "sample_prompts", "sample_sampler")

ROOT_RULES: dict[str, Rule] = {
    **without_counterpart(sd_scripts.WITHOUT, but=("network_args",)),
    **DATASET,
    **FOLDERS,
    **OBJECTIVE,
    **TRAINING,
    **{f"network_args.{key}": rule for key, rule in NETWORK_ARGS.items()},
}
"""Rules of options, besides those of concepts."""


def is_sd_scripts(data: Mapping[str, Any]) -> bool:
    """Return whether a TOML file is a configuration or dataset file of sd-scripts."""
    known = {*ROOT_RULES, *SUBSET, *_PARTS}
    return any(key in known for key in _without_sections(data))


def from_sd_scripts(
    options: Mapping[str, Any],
    *,
    folder: Path,
    script: str = "",
    family: str | None = None,
    name: str = _NAME,
    labels: Mapping[str, str] | None = None,
    originals: Mapping[str, Any] | None = None,
    extra: list[Entry] | None = None,
) -> Imported:
    """Import options of sd-scripts.

    Args:
        options: options by name, also those of a dataset file.
        folder: folder of the file, for files that it names.
        script: name of the script, or "".
        family: family of the base model, if the user has chosen it.
        name: name of the program for the report.
        labels: names of options for the report, if they differ.
        originals: values by these names, for the report.
        extra: entries of keys that are no options of sd-scripts.

    Raises:
        ConfigError: If a file cannot be read, or the family is not supported.
    """
    options = _complete(options, folder)
    found, guess = family_of(options, script, family)
    parts = {key: options.pop(key) for key in _PARTS if key in options}
    entries, data = _root(options, parts, found)
    notes = [guess] if guess else []
    if trains_no_lora(script):
        note = f"a LoRA is trained instead, because {why.ADAPTERS}"
        entries.insert(0, Entry("script", script, "ignored", note=note, matters=True))
    elif name == _NAME and not script:
        assumed, lines = _assumed_lora(options)
        entries, notes = assumed + entries, notes + lines
    launcher = parts.get("launcher")
    for key, value in launcher.items() if isinstance(launcher, dict) else ():
        entries.append(Entry(f"launcher.{key}", value, "ignored", note=why.DEVICES))
    if "sample_prompts" in parts:
        entry, settings = samples_in(parts["sample_prompts"], folder, found)
        entries.append(entry)
        data |= settings
    samples = data.get("samples", [])
    if parts.get("sample_sampler"):
        entries.append(_sampler(parts["sample_sampler"], found, samples))
    elif "sample_sampler" in parts or (samples and found != "flux"):
        entry = _sampler(_SAMPLER, found, samples)
        entries.append(dataclasses.replace(entry, is_default=True))
    result = nested({key: value for key, value in data.items() if key[0] != "_"})
    concepts = _concepts(options, parts, found, data)
    joined = join_prefixes([concept for concept in concepts if concept.get("path")])
    entries = joined.entries(entries)
    if joined.word:
        result["trigger_word"] = joined.word
    result["concepts"] = concepts
    result = _completed(result, data)
    entries = [_labeled(entry, labels or {}, originals or {}) for entry in entries]
    return finished(
        {"model_type": found, **result}, entries + (extra or []), name, notes
    )


def _assumed_lora(options: Mapping[str, Any]) -> tuple[list[Entry], list[str]]:
    """Return what is reported on options without the name of a script."""
    if not options:
        return [], [
            "Only a dataset was given, so all other settings are the defaults of "
            "sd-scripts. Import the training file or command line that names it."
        ]
    if options.get("network_module"):
        return [], []
    others = options_without_lora(options)
    if not others:
        return [], [
            "network_module is not set: the options are read as those of a LoRA. If "
            "they are for a full fine-tune, its learning rate is too low for a LoRA."
        ]
    note = (
        f"is not set, and {', '.join(others)} is only used by scripts that train no "
        f"LoRA. A LoRA is trained instead, because {why.ADAPTERS}"
    )
    return [Entry("network_module", None, "ignored", note=note, matters=True)], []


def _sampler(value: Any, family: str, samples: list[dict[str, Any]]) -> Entry:
    """Set the sampler of the samples that do not name one."""
    found = sampler_rule(Scope({}, {}, family), value)
    for sample in samples:
        sample.update({**found.sets, **sample})
    sets = tuple(found.sets.items())
    return Entry("sample_sampler", value, found.outcome, sets, found.note)


def _complete(options: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Add the options of files that are named, and split lists of arguments."""
    found = dict(options)
    if isinstance(found.get("config_file"), str):
        named = found["config_file"]
        path = near(named if named.endswith(".toml") else f"{named}.toml", folder)
        if path is None:
            raise ConfigError(f"config_file: the file {named} does not exist.")
        found = {**_without_sections(read_source(path)), **found}
    found = _without_sections(found)
    if isinstance(found.get("dataset_config"), str) and found["dataset_config"]:
        path = near(found["dataset_config"], folder)
        if path is not None:
            found |= read_source(path)
    for key in ("network_args", "optimizer_args"):
        if found.get(key) not in (None, "", []):
            found[key] = parsed_arguments(found[key])
    return found


def _without_sections(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return options without the sections of a TOML file, which have no meaning."""
    if "datasets" in data:
        return dict(data)
    kept = ("general", "launcher", "network_args", "optimizer_args")
    found: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping) and key not in kept:
            found |= value
        else:
            found[str(key)] = value
    return found


def _root(
    options: dict[str, Any], parts: dict[str, Any], family: str
) -> tuple[list[Entry], dict[str, Any]]:
    """Walk over options, and over general settings and datasets of a dataset file."""
    others: list[Entry] = []
    numbered = objects_in(parts.get("datasets"), "datasets", others)
    datasets = [dataset for _, dataset in numbered]
    for key in ("general", "launcher"):
        if not isinstance(parts.get(key, {}), dict):
            note = "is not an object with keys"
            others.append(Entry(key, parts[key], "ignored", note=note, matters=True))
    general = parts.get("general") if isinstance(parts.get("general"), dict) else {}
    shared = {key: value for key, value in options.items() if key in SUBSET}
    own = {key: value for key, value in options.items() if key not in SUBSET}
    base = {**own, **_only(general, DATASET)}
    if datasets:
        base |= _only(datasets[0], DATASET) | {"datasets": True}
    defaults = {
        **DEFAULTS,
        **DATASET_DEFAULTS,
        **(FLUX_DEFAULTS if family == "flux" else {}),
    }
    scope = Scope(base, defaults, family)
    rules = {**ROOT_RULES, **argument_rules(scope)}
    found, data = walk(scope, rules)
    data.pop("datasets", None)
    # Keys of the command line only, and defaults. The others follow with their place.
    kept = [entry for entry in found if entry.is_default or _top(entry.key) in own]
    if datasets:
        first = (datasets[0], general or {}, own)
        kept = [
            entry if entry.is_default else overridden(entry, own, first)
            for entry in kept
        ]
    kept += _level(shared, family, SUBSET, "", "concepts.*.")
    kept += _dataset_file((general or {}, own), numbered, base, family)
    if parts.get("datasets") == []:
        kept.append(Entry("datasets", [], "ignored", note="is empty"))
    kept += others
    return kept, data


def _dataset_file(
    above: tuple[dict[str, Any], dict[str, Any]],
    datasets: list[tuple[int, dict[str, Any]]],
    base: Any,
    family: str,
) -> list[Entry]:
    """Walk over a dataset file, below general settings and the command line."""
    general = above[0]
    entries = _both(general, base, family, "general.", "concepts.*.")
    number = 0
    first = (datasets[0][1] if datasets else {}, *above)
    entries = [overridden(entry, general, first) for entry in entries]
    for index, dataset in datasets:
        place = f"datasets.{index}."
        own = {key: value for key, value in dataset.items() if key != "subsets"}
        subsets = dataset.get("subsets")
        alone = isinstance(subsets, list) and len(subsets) == 1
        concepts = f"concepts.{number}." if alone else "concepts.*."
        found = _both(own, {**base, **own}, family, place, concepts)
        levels = (dataset, *above)
        if dataset is not first[0]:
            found = [same_for_all(entry, levels, first) for entry in found]
            found += unlike_first(place, levels, first)
        entries += found
        subsets = objects_in(dataset.get("subsets"), f"{place}subsets", entries)
        for inner, subset in subsets:
            prefix = f"{place}subsets.{inner}."
            entries += _level(subset, family, SUBSET, prefix, f"concepts.{number}.")
            number += 1
        if dataset.get("subsets") == []:
            note = "contains no folder"
            entries.append(Entry(f"{place}subsets", [], "ignored", note=note))
    return entries


def _both(
    own: dict[str, Any], base: Any, family: str, prefix: str, concepts: str
) -> list[Entry]:
    """Walk over keys of datasets, and over those that apply to all of its subsets."""
    subset = {key: value for key, value in own.items() if key in SUBSET}
    other = {key: value for key, value in own.items() if key not in SUBSET}
    inherited = {**DATASET_DEFAULTS, **{k: v for k, v in base.items() if v != ""}}
    scope = Scope(other, inherited, family)
    found, _ = walk(scope, DATASET, prefix=prefix, with_defaults=False)
    return found + _level(subset, family, SUBSET, prefix, concepts)


def _level(
    own: dict[str, Any], family: str, rules: dict[str, Rule], prefix: str, target: str
) -> list[Entry]:
    scope = Scope(own, {}, family)
    return walk(scope, rules, prefix=prefix, target=target)[0]


def _concepts(
    options: dict[str, Any], parts: dict[str, Any], family: str, data: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return a concept for each subset, with the settings that it inherits."""
    general = parts.get("general") if isinstance(parts.get("general"), dict) else {}
    above = {**_only(options, SUBSET), **_only(general, SUBSET)}
    found = []
    for dataset in _objects(parts.get("datasets")):
        scope = Scope({**options, **(general or {}), **dataset}, {}, family)
        side = _side(scope)
        for subset in _objects(dataset.get("subsets")):
            own = {**above, **_only(dataset, SUBSET), **subset}
            concept = _concept(own, family)
            if side not in (None, data.get("resolution")):
                concept["resolutions"] = [side]
            found.append(concept)
    for place, is_reg in (("concepts.0", False), ("concepts.1", True)):
        if f"{place}.path" in data:
            subset = {**above, "image_dir": data[f"{place}.path"], "is_reg": is_reg}
            numbered = data.get(f"{place}.subfolder_repeats", False)
            key = "subfolder_repeats" if numbered else "include_subdirectories"
            found.append({**_concept(subset, family), key: True})
    return found


def _side(scope: Scope) -> Any:
    """Return the resolution of a dataset, or None if it has none."""
    value = scope.get("resolution")
    if value is None:
        return None
    return apply(DATASET, scope, "resolution", value).sets.get("resolution")


def _concept(subset: dict[str, Any], family: str) -> dict[str, Any]:
    return walk(Scope(subset, SUBSET_DEFAULTS, family), SUBSET)[1]


def _completed(result: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Move settings of concepts that apply to all of them here."""
    concepts = [concept for concept in result["concepts"] if concept.get("path")]
    masks = [concept.pop("_alpha_mask", False) for concept in concepts]
    if any(masks):
        result |= {
            "masked_training": True,
            "alpha_mask": True,
            "unmasked_weight": 0.0,
            "unmasked_probability": 0.0,
        }
    weight = data.get("_prior_loss_weight")
    for concept in concepts:
        if weight is not None and concept.get("is_reg"):
            concept["loss_weight"] = float(weight)
    if result.get("validation_split"):
        result.setdefault("validate_every", "1 epoch")
    return {**result, "concepts": concepts}


def _labeled(
    entry: Entry, labels: Mapping[str, str], originals: Mapping[str, Any]
) -> Entry:
    """Return the entry with the name of the option, and of settings of all concepts."""
    sets = tuple((_plain(key), value) for key, value in entry.sets)
    first, _, rest = entry.key.partition(".")
    key = rest if first == "network_args" and rest in originals else entry.key
    key = labels.get(key, key)
    value = originals.get(key, entry.value)
    return dataclasses.replace(entry, key=key, value=value, sets=sets)


def _plain(setting: str) -> str:
    name = setting.rpartition(".")[2]
    if name == "_prior_loss_weight":
        return "concepts.*.loss_weight"
    return name[1:] if name.startswith("_") else setting


def _only(data: Any, rules: Mapping[str, Rule]) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        return {}
    return {
        key: value
        for key, value in data.items()
        if key in rules and value is not None and value != ""
    }


def _objects(value: Any) -> list[dict[str, Any]]:
    items = value if isinstance(value, list) else []
    return [item for item in items if isinstance(item, dict)]


def _top(key: str) -> str:
    return key.partition(".")[0]
