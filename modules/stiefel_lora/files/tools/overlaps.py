r"""Overlap of the updates of two LoRAs.

* cosine: :math:`\langle \Delta W_1, \Delta W_2 \rangle / (\|\Delta W_1\| \|\Delta
  W_2\|)`, which determines the norm of the sum. In random directions, its standard
  deviation is :math:`1 / \sqrt{m n}` for m x n matrices.
* outputs, inputs: :math:`\|Q_1^T Q_2\|_F^2 / \min(r_1, r_2)` of orthonormal bases of
  the columns of B, or of the rows of A. Random subspaces of m dimensions have
  :math:`\max(r_1, r_2) / m`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..._exceptions import ModelError
from ..._wording import counted
from ..weights import LoraFactors
from .differences import relative, update_norm
from .finite_layers import check_finite
from .layer_names import MODEL
from .lora_file import LoraFile
from .one_thread import one_thread
from .open_lora import with_family
from .respell import in_layout_of, is_fused
from .sections import section_of

__all__ = ["LayerOverlap", "OverlapReport", "overlap"]

# Singular values below this fraction of the largest count as zero.
_RANK_CUT = 1e-6
# Change of the strength of a LoRA in the sum that is reported.
_NOTABLE = 0.1
# Growth of the norm above which the sum is larger than LoRAs usually are.
_LONG = 1.2


@dataclasses.dataclass(frozen=True)
class LayerOverlap:
    """Overlap of a layer, or mean overlap and total norms of a section."""

    name: str
    section: str
    norms: tuple[float, float]
    """Frobenius norms of the two updates."""

    cosine: float
    cosine_by_chance: float
    """Standard deviation of the cosine of updates in random directions."""

    outputs: float
    """Overlap of the output spaces, in [0, 1]."""

    outputs_by_chance: float
    inputs: float
    inputs_by_chance: float

    @property
    def sum_norm(self) -> float:
        """Frobenius norm of the sum of both updates."""
        one, two = self.norms
        return math.sqrt(max(one**2 + two**2 + 2 * self.cosine * one * two, 0.0))

    @property
    def strengths(self) -> tuple[float, float]:
        r"""Strengths of both updates in the sum, along their own directions.

        :math:`\langle \Delta W_1 + \Delta W_2, \Delta W_1 \rangle / \|\Delta W_1\|^2`.
        It is 1 for orthogonal updates.
        """
        one, two = self.norms
        inner = self.cosine * one * two
        return 1 + relative(inner, one * one), 1 + relative(inner, two * two)

    def to_json(self) -> dict[str, Any]:
        """Convert the values to JSON values."""
        found = dataclasses.asdict(self)
        return found | {"sum_norm": self.sum_norm, "strengths": list(self.strengths)}


@dataclasses.dataclass(frozen=True)
class OverlapReport:
    """Result of :func:`overlap`."""

    layers: tuple[LayerOverlap, ...]
    sections: Mapping[str, LayerOverlap]
    total: LayerOverlap
    alone: tuple[int, int]
    """Names of layers that are only in one of the files."""

    def to_json(self) -> dict[str, Any]:
        """Convert the report to JSON values."""
        return {
            "total": self.total.to_json(),
            "sections": {name: row.to_json() for name, row in self.sections.items()},
            "layers": [layer.to_json() for layer in self.layers],
            "alone": list(self.alone),
        }

    def left_out(self) -> str:
        """Return a message about layers that were not compared, or ""."""
        if not any(self.alone):
            return ""
        one, two = self.alone
        return (
            f"Not compared: {counted(one, 'layer', 'layers')} only in A, {two} only in "
            "B."
        )

    def advice(self) -> str:
        """Return a text about the sum of both LoRAs with the weight 1."""
        if not all(self.total.norms):
            name = " and ".join(
                name
                for name, norm in zip("AB", self.total.norms, strict=True)
                if not norm
            )
            return f"All common updates of {name} are 0."
        growth = self.total.sum_norm / max(self.total.norms)
        one, two = self.total.strengths
        text = f"The norm of the sum is {growth:.2f} times the norm of the larger LoRA"
        shared = max(abs(one - 1), abs(two - 1)) > _NOTABLE
        text += ". The LoRAs share directions" if shared else ""
        text += (
            f". In the sum, A has {one:.2f} times its strength, and B {two:.2f} times "
            "(1.00 without overlap)"
        )
        if growth > _LONG:
            text += ". Use smaller weights, or lora merge --method norm"
        return f"{text}."


@torch.no_grad()
@one_thread()
def overlap(one: LoraFile, two: LoraFile) -> OverlapReport:
    """Compare two LoRAs of the same model. DoRA scales are ignored.

    Raises:
        ModelError: If the files have different families, no layers in common, layers of
            different shapes, or NaN.
    """
    check_finite(one)
    check_finite(two)
    if None not in (one.label, two.label) and one.label != two.label:
        raise ModelError(
            f"{one.path} is a LoRA of {one.label}, but {two.path} is a LoRA of "
            f"{two.label}. Use two LoRAs of the same family."
        )
    one, two = with_family(one, two.family), with_family(two, one.family)
    if any(layer.parsed.component == MODEL for layer in one.layers):
        two = in_layout_of(two, is_fused(one))
    others = two.by_key
    common = [layer for layer in one.layers if layer.key in others]
    if not common:
        raise ModelError(
            f"{one.path} and {two.path} have no layers in common. Use two LoRAs of "
            "the same model."
        )
    layers = []
    for layer in common:
        found = _layer(layer.factors, others[layer.key].factors)
        if found is None:
            raise ModelError(
                f"{layer.name} has different shapes in the two files. Use two LoRAs "
                "of the same model."
            )
        layers.append(
            dataclasses.replace(found, name=layer.name, section=section_of(layer.key))
        )
    sections: dict[str, list[LayerOverlap]] = {}
    for row in layers:
        sections.setdefault(row.section, []).append(row)
    return OverlapReport(
        tuple(layers),
        {name: _together(name, rows) for name, rows in sorted(sections.items())},
        _together("all", layers),
        (len(one.layers) - len(common), len(two.layers) - len(common)),
    )


def _layer(one: LoraFactors, two: LoraFactors) -> LayerOverlap | None:
    ups = [f.up.flatten(1).double() for f in (one, two)]
    downs = [f.down.flatten(1).double() for f in (one, two)]
    if ups[0].shape[0] != ups[1].shape[0] or downs[0].shape[1] != downs[1].shape[1]:
        return None
    norms = update_norm(one), update_norm(two)
    inner = float(((ups[0].mT @ ups[1]) * (downs[0] @ downs[1].mT)).sum())
    inner *= one.scale * two.scale
    size = norms[0] * norms[1]
    sides = (ups, [down.mT for down in downs])
    shares = [_subspaces(*side) for side in sides]
    return LayerOverlap(
        name="",
        section="",
        norms=norms,
        cosine=inner / size if size else 0.0,
        cosine_by_chance=(ups[0].shape[0] * downs[0].shape[1]) ** -0.5,
        outputs=shares[0][0],
        outputs_by_chance=shares[0][1],
        inputs=shares[1][0],
        inputs_by_chance=shares[1][1],
    )


def _subspaces(one: Tensor, two: Tensor) -> tuple[float, float]:
    """Return the overlap of two column spaces, and the overlap of random subspaces."""
    first, second = _basis(one), _basis(two)
    ranks = first.shape[1], second.shape[1]
    if min(ranks) == 0:
        return 0.0, 0.0
    shared = float((first.mT @ second).square().sum()) / min(ranks)
    return shared, max(ranks) / one.shape[0]


def _basis(matrix: Tensor) -> Tensor:
    """Return an orthonormal basis of the column space."""
    tall, small = torch.linalg.qr(matrix)
    u, sigma, _ = torch.linalg.svd(small)
    kept = int((sigma > _RANK_CUT * sigma[:1]).sum())
    return tall @ u[:, :kept]


def _together(name: str, rows: Iterable[LayerOverlap]) -> LayerOverlap:
    rows = list(rows)
    norms = tuple(math.hypot(*(row.norms[side] for row in rows)) for side in (0, 1))
    inner = sum(row.cosine * row.norms[0] * row.norms[1] for row in rows)
    size = norms[0] * norms[1]
    # The cosines of layers are independent, and each has the mean 0.
    chance = math.hypot(
        *(row.cosine_by_chance * row.norms[0] * row.norms[1] for row in rows)
    )

    def mean(part: str) -> float:
        return sum(getattr(row, part) for row in rows) / len(rows)

    return LayerOverlap(
        name=name,
        section=name,
        norms=(norms[0], norms[1]),
        cosine=inner / size if size else 0.0,
        cosine_by_chance=chance / size if size else 0.0,
        outputs=mean("outputs"),
        outputs_by_chance=mean("outputs_by_chance"),
        inputs=mean("inputs"),
        inputs_by_chance=mean("inputs_by_chance"),
    )
