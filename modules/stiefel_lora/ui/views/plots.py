"""Curves and heat map. Importing this module imports pyqtgraph."""

from __future__ import annotations

import dataclasses

from .curves import Curves
from .heat_map import HeatMap

__all__ = ["Plots"]


@dataclasses.dataclass
class Plots:
    """The plots of the Run tab."""

    curves: Curves = dataclasses.field(default_factory=Curves)
    heat_map: HeatMap = dataclasses.field(default_factory=HeatMap)
