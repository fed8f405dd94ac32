"""Plots of the Run tab. Importing this module imports pyqtgraph."""

from __future__ import annotations

import dataclasses

from .curves import Curves
from .heat_map import HeatMap

__all__ = ["Plots"]


@dataclasses.dataclass
class Plots:
    """Curves and heat map of the Run tab."""

    curves: Curves = dataclasses.field(default_factory=Curves)
    heat_map: HeatMap = dataclasses.field(default_factory=HeatMap)
