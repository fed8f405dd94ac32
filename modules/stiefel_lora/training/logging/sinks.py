"""Interface of the loggers of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ...metrics.tags import MAGNITUDE_CHANGE, ORTHOGONALITY, STABLE

if TYPE_CHECKING:
    from PIL import Image

# Summaries have a slash instead of the dot.
_DETAILS = tuple(f"{kind}." for kind in (STABLE, ORTHOGONALITY, MAGNITUDE_CHANGE))

__all__ = ["MetricSink", "SinkGroup", "WithoutDetails"]


class MetricSink(Protocol):
    """Interface of a logger. ``step`` is the number of completed optimizer steps."""

    def event(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Log an event, such as start, checkpoint, sample or end, with JSON values."""
        ...

    def scalars(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Log values by tag, such as ``loss/train``. ``kind`` is the measurement."""
        ...

    def histogram(self, tag: str, step: int, values: Sequence[float]) -> None:
        """Log a histogram."""
        ...

    def image(self, tag: str, step: int, image: Image.Image) -> None:
        """Log an image."""
        ...

    def close(self) -> None:
        """Write everything that is buffered."""
        ...


class WithoutDetails:
    """Sink without the charts of blocks, except for the effective rank.

    A model of 700 blocks has more than 2,000 of them.
    """

    def __init__(self, sink: MetricSink) -> None:
        self._sink = sink
        self.event, self.histogram = sink.event, sink.histogram
        self.image, self.close = sink.image, sink.close

    def scalars(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Log the values that are not details of a block."""
        kept = {tag: v for tag, v in values.items() if not tag.startswith(_DETAILS)}
        self._sink.scalars(kind, step, kept)


class SinkGroup:
    """Group of several sinks."""

    def __init__(self, sinks: Sequence[MetricSink]) -> None:
        self._sinks = list(sinks)

    def add(self, sink: MetricSink) -> None:
        """Add another sink."""
        self._sinks.append(sink)

    def event(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Log an event to all sinks."""
        for sink in self._sinks:
            sink.event(kind, step, values)

    def scalars(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Log values to all sinks."""
        for sink in self._sinks:
            sink.scalars(kind, step, values)

    def histogram(self, tag: str, step: int, values: Sequence[float]) -> None:
        """Log a histogram to all sinks."""
        for sink in self._sinks:
            sink.histogram(tag, step, values)

    def image(self, tag: str, step: int, image: Image.Image) -> None:
        """Log an image to all sinks."""
        for sink in self._sinks:
            sink.image(tag, step, image)

    def close(self) -> None:
        """Close all sinks."""
        for sink in self._sinks:
            sink.close()
