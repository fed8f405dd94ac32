"""Destinations of the numbers and images of a run, behind one protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["MetricSink", "SinkGroup"]


class MetricSink(Protocol):
    """Receives the output of a run. ``step`` is the number of optimizer steps done."""

    def event(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Record an event: start, checkpoint, sample, end ... (JSON values)."""
        ...

    def scalars(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Record numbers by tag, e.g. ``loss/train``. ``kind`` is the measurement."""
        ...

    def histogram(self, tag: str, step: int, values: Sequence[float]) -> None:
        """Record a distribution."""
        ...

    def image(self, tag: str, step: int, image: Image.Image) -> None:
        """Record an image."""
        ...

    def close(self) -> None:
        """Write everything that is buffered."""
        ...


class SinkGroup:
    """Passes everything to all of its sinks, in order."""

    def __init__(self, sinks: Sequence[MetricSink]) -> None:
        self._sinks = list(sinks)

    def add(self, sink: MetricSink) -> None:
        """Add another sink."""
        self._sinks.append(sink)

    def event(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Pass on an event."""
        for sink in self._sinks:
            sink.event(kind, step, values)

    def scalars(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Pass on numbers."""
        for sink in self._sinks:
            sink.scalars(kind, step, values)

    def histogram(self, tag: str, step: int, values: Sequence[float]) -> None:
        """Pass on a distribution."""
        for sink in self._sinks:
            sink.histogram(tag, step, values)

    def image(self, tag: str, step: int, image: Image.Image) -> None:
        """Pass on an image."""
        for sink in self._sinks:
            sink.image(tag, step, image)

    def close(self) -> None:
        """Close all sinks."""
        for sink in self._sinks:
            sink.close()
