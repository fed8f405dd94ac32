"""Where numbers and images of a run go; one small protocol, several sinks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["MetricSink", "SinkGroup"]


class MetricSink(Protocol):
    """Takes what a run has to say; ``step`` counts optimizer steps done."""

    def event(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Something happened: start, checkpoint, sample, end ... (JSON values)."""
        ...

    def scalars(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Numbers by tag, such as ``loss/train``; ``kind`` names the measurement."""
        ...

    def histogram(self, tag: str, step: int, values: Sequence[float]) -> None:
        """A distribution."""
        ...

    def image(self, tag: str, step: int, image: Image.Image) -> None:
        """An image."""
        ...

    def close(self) -> None:
        """Write what is still held back."""
        ...


class SinkGroup:
    """Passes everything to all of its sinks, in order."""

    def __init__(self, sinks: Sequence[MetricSink]) -> None:
        self._sinks = list(sinks)

    def add(self, sink: MetricSink) -> None:
        """Pass on to one more from now on."""
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
