"""Verification of how other programs load a LoRA file.

diffusers and peft are called directly. ComfyUI and Forge are emulated with lists of
their key names.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from collections.abc import Callable, Mapping

import torch

from ..._exceptions import ModelError
from ..._wording import counted
from ...families.catalogue import family_names
from ..weights import LoraFactors
from .differences import compared, equal_numbers, is_rounding, relative
from .embeddings import other_adapters
from .finite_layers import check_finite
from .key_lists import PROGRAMS, has_list, load_by_list, program_label, target_of
from .lora_file import LoraFile
from .one_thread import one_thread
from .open_lora import with_family
from .respell import in_layout_of, is_fused, kohya_stem
from .save_lora import holds_alpha

__all__ = ["Check", "compare_loras", "verify_lora"]

OWN_OF_PEFT = "PEFT (own)"
"""Key format of the files that peft saves."""

CLOSE = 1e-5
"""Maximum relative deviation of a correct update."""


@dataclasses.dataclass(frozen=True)
class Check:
    """Result of checking a LoRA file with a program."""

    program: str
    """Name and version of the program."""

    layers: int
    """Number of layers in the file."""

    deviation: float
    """Maximum relative deviation of the update of a layer."""

    worst: str = ""
    """Layer with the largest deviation."""

    missing: tuple[str, ...] = ()
    """Layers that are not loaded, or are loaded in error."""

    unused: tuple[str, ...] = ()
    """Keys that the program ignores."""

    without_scale: tuple[str, ...] = ()
    """DoRA layers that are loaded without their scale, or plain layers with one."""

    not_compared: int = 0
    """Number of keys of other adapters, which are loaded, but not compared."""

    unlike_scales: int = 0
    """Number of DoRA layers whose scales were not compared.

    A ``dora_scale`` and a magnitude can only be compared with the base model.
    """

    problem: str = ""
    """Error message if the program does not accept the file, else ""."""

    tolerance: float = CLOSE
    """Maximum deviation of a correct file."""

    @property
    def is_right(self) -> bool:
        """Return whether the other program applies all layers of the file correctly."""
        left_out = self.missing or self.unused or self.without_scale
        whole = not (left_out or self.problem)
        return whole and self.deviation <= self.tolerance

    def summary(self) -> str:
        """Return a summary in a line."""
        if self.problem:
            return f"{self.program}: rejects the file: {self.problem}"
        loaded = self.layers - len(self.missing)
        text = f"{self.program}: {loaded} of {self.layers} layers"
        if loaded:
            text += f", largest relative deviation {self.deviation:.1e}"
            text += f" ({self.worst})" if not self.deviation <= self.tolerance else ""
        for label, names in (
            ("missing", self.missing),
            ("unused", self.unused),
            ("DoRA scale ignored", self.without_scale),
        ):
            if names:
                more = f" and {len(names) - 2} more" if len(names) > 2 else ""
                text += f"; {label}: {', '.join(names[:2])}{more}"
        if self.unlike_scales:
            text += (
                f"; {counted(self.unlike_scales, 'DoRA scale', 'DoRA scales')} not "
                "compared, because one file has dora_scale and the other the magnitude "
                "of peft"
            )
        if self.not_compared:
            text += f"; {self.not_compared} keys of other adapters not compared"
        return f"{text}."

    # The old name works until 0.2.
    sentence = summary


@torch.no_grad()
@one_thread()
def verify_lora(file: LoraFile, meant: LoraFile | None = None) -> tuple[Check, ...]:
    """Load a LoRA file with other programs and compare the updates.

    Args:
        file: LoRA file on disk from :func:`open_lora`.
        meant: expected layers. The default is the layers of ``file``.

    Returns:
        A result for each program that supports the family. Files saved by peft are only
        loaded by peft, because no other program supports their key format.

    Raises:
        ModelError: If a layer contains NaN or infinity.
    """
    check_finite(file)
    wanted = meant or file
    checks = []
    if file.spelling == OWN_OF_PEFT:
        if _installed("peft"):
            from .peft_loading import PEFT, load_by_peft

            checks.append(_by_code(PEFT, file, wanted, load_by_peft))
        return tuple(checks)
    if file.family in family_names():
        for program in PROGRAMS:
            if has_list(program, str(file.family)):
                checks.append(_by_list(program, file, wanted))
        if _installed("diffusers", "peft", "transformers"):
            from .diffusers_loading import DIFFUSERS, is_loadable, load_by_diffusers

            if is_loadable(str(file.family)):
                check = _by_code(DIFFUSERS, file, wanted, load_by_diffusers)
                checks.append(_with_others(check, file))
    return tuple(checks)


@torch.no_grad()
@one_thread()
def compare_loras(file: LoraFile, meant: LoraFile) -> Check:
    """Compare the weight deltas of two files in any key formats.

    Raises:
        ModelError: If a layer contains NaN or infinity or is not a LoRA, or the
            families differ.
    """
    for one in (file, meant):
        check_finite(one)
        for other in other_adapters(one):
            raise ModelError(
                f"{one.path}: {other.name} is {other.kind}, which "
                "cannot be compared. Use plain LoRA files."
            )
    if None not in (file.label, meant.label) and file.label != meant.label:
        raise ModelError(
            f"{file.path} is a LoRA of {file.label}, but {meant.path} is a LoRA of "
            f"{meant.label}. Use two LoRAs of the same family."
        )
    file, meant = with_family(file, meant.family), with_family(meant, file.family)
    one_layout = in_layout_of(meant, is_fused(file))
    wanted = {layer.key: layer.factors for layer in one_layout.layers}
    found = {layer.key: layer.factors for layer in file.layers}
    check = _compared("stiefel-lora", wanted, found, tuple(sorted(file.unknown)))
    kinds = {layer.dtype for layer in (*file.layers, *meant.layers)}
    # Factors that are computed have at least 16 bits.
    wide = [kind for kind in kinds if kind.itemsize > 1] or [torch.float16]
    rounding = max(CLOSE, *(torch.finfo(kind).eps for kind in wide))
    # A format without alphas can round a small change of the scale away.
    both = all(map(holds_alpha, (*file.layers, *meant.layers)))
    allowed, wrong = CLOSE, {}
    for name in wanted.keys() & found.keys():
        deviation = _deviation(found[name], wanted[name])
        pair = found[name], wanted[name]
        same = both and equal_numbers(pair[0].down, pair[1].down)
        if deviation <= (CLOSE if same else _tolerance(*pair, rounding)):
            allowed = max(allowed, deviation)
        else:
            wrong[name] = deviation
    if not wrong:
        return dataclasses.replace(check, tolerance=allowed)
    worst = max(
        sorted(wrong), key=lambda name: (wrong[name] != wrong[name], wrong[name])
    )
    return dataclasses.replace(check, deviation=wrong[worst], worst=worst)


def _tolerance(one: LoraFactors, two: LoraFactors, rounding: float) -> float:
    """Return the largest deviation of two layers with the same update.

    Another key format can contain other factors, for example with alpha multiplied into
    A, which are rounded to the dtype of the file. If B is the same, this accounts for
    all of the difference.
    """
    if is_rounding(one, two):
        # A DoRA scale also contributes to the deviation.
        return rounding if one.is_dora or two.is_dora else math.inf
    return CLOSE if equal_numbers(one.up, two.up) else rounding


def _installed(*names: str) -> bool:
    return all(importlib.util.find_spec(name) is not None for name in names)


def _by_list(program: str, file: LoraFile, meant: LoraFile) -> Check:
    label, family = program_label(program), str(file.family)
    try:
        fused = in_layout_of(meant, fused=True)
        loaded = load_by_list(program, family, file.tensors)
    except ModelError as error:
        return Check(label, len(meant.layers), 0.0, problem=str(error))
    wanted = {}
    for layer in fused.layers:
        stem = kohya_stem(layer, family)
        target = target_of(program, family, stem) if stem else None
        wanted[target or layer.name] = layer.factors
    found = _compared(label, wanted, loaded.factors, loaded.unused)
    return dataclasses.replace(found, not_compared=len(loaded.others))


def _by_code(
    label: str,
    file: LoraFile,
    meant: LoraFile,
    load: Callable[[LoraFile], tuple[Mapping[str, LoraFactors], tuple[str, ...]]],
) -> Check:
    """Compare the updates loaded by diffusers or peft with the expected ones."""
    count = len(meant.layers)
    try:
        apart = in_layout_of(meant, fused=False)
        count = len(apart.layers)
        loaded, unused = load(file)
    except Exception as error:
        text = str(error).strip().splitlines() or [type(error).__name__]
        return Check(label, count, 0.0, problem=text[0])
    wanted = {layer.key: layer.factors for layer in apart.layers}
    return _compared(label, wanted, loaded, unused)


def _with_others(check: Check, file: LoraFile) -> Check:
    """Add the keys of other adapters, which diffusers ignores without a message."""
    ignored = [key for other in other_adapters(file) for key in other.tensors]
    missing = [key for key in ignored if key not in check.unused]
    return dataclasses.replace(check, unused=(*check.unused, *missing))


def _compared(
    label: str,
    wanted: Mapping[str, LoraFactors],
    loaded: Mapping[str, LoraFactors],
    unused: tuple[str, ...],
) -> Check:
    worst, deviation = "", 0.0
    without_scale = []
    for name, factors in wanted.items():
        if name not in loaded:
            continue
        if loaded[name].is_dora != factors.is_dora:
            without_scale.append(name)
        found = _deviation(loaded[name], factors)
        if found > deviation or found != found:
            worst, deviation = name, found
    apart = tuple(sorted(wanted.keys() ^ loaded.keys()))
    scales = tuple(without_scale)
    both = wanted.keys() & loaded.keys()
    unlike = sum(_unlike_scales(loaded[name], wanted[name]) for name in both)
    return Check(
        *(label, len(wanted), deviation, worst, apart, unused, scales),
        unlike_scales=unlike,
    )


def _unlike_scales(one: LoraFactors, two: LoraFactors) -> bool:
    """Return whether two DoRA layers have no kind of scale in common."""
    common = any(
        getattr(one, part) is not None and getattr(two, part) is not None
        for part in ("dora_scale", "magnitude")
    )
    return one.is_dora and two.is_dora and not common


def _equal(one: LoraFactors, two: LoraFactors) -> bool:
    pairs = ((one.up, two.up), (one.down, two.down))
    same = all(equal_numbers(a, b) for a, b in pairs)
    return same and one.scale == two.scale


def _deviation(loaded: LoraFactors, meant: LoraFactors) -> float:
    shapes = [
        (factors.up.shape[0], factors.down[0].numel()) for factors in (loaded, meant)
    ]
    if shapes[0] != shapes[1]:
        return float("inf")
    found = 0.0 if _equal(loaded, meant) else relative(*compared(loaded, meant))
    for part in ("dora_scale", "magnitude"):
        one, two = getattr(loaded, part), getattr(meant, part)
        if one is not None and two is not None:
            apart = (one.double().flatten() - two.double().flatten()).norm()
            found = max(found, float(apart / two.double().norm()))
    return found
