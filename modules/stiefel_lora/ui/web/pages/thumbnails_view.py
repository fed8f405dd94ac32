"""Grid of thumbnails in the browser."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from nicegui import events, ui

__all__ = ["Thumbnail", "ThumbnailsView"]


@dataclasses.dataclass(frozen=True)
class Thumbnail:
    """Image of a grid."""

    key: str
    """Text that is reported when the image is selected."""

    name: str
    url: str | None
    problem: str = ""
    wrong: bool = False
    """Whether the image is not used for training."""

    hint: str = ""


class ThumbnailsView(ui.element, component="thumbnails_view.js"):
    """Grid of thumbnails.

    Args:
        chosen: function that is called with the key of a clicked image, whether it is
            added to the selection (Ctrl), and whether a range is selected (Shift).
        multiple: whether several images can be selected.
    """

    def __init__(
        self, chosen: Callable[[str, bool, bool], None], *, multiple: bool = False
    ) -> None:
        super().__init__()
        self.props["items"] = []
        self.props["chosen"] = ""
        self.props["selected"] = []
        self.props["multiple"] = multiple

        def clicked(event: events.GenericEventArguments) -> None:
            found = event.args
            chosen(
                str(found["key"]), bool(found.get("adds")), bool(found.get("extends"))
            )

        self.on("chosen", clicked)

    def show_images(self, images: Sequence[Thumbnail]) -> None:
        """Show images, if they have changed."""
        found = [dataclasses.asdict(image) for image in images]
        if found != self.props["items"]:
            self.props["items"] = found

    def choose(self, key: str, selected: Sequence[str] = ()) -> None:
        """Mark an image as shown in detail, and others as selected."""
        if key != self.props["chosen"]:
            self.props["chosen"] = key
        if [*selected] != self.props["selected"]:
            self.props["selected"] = [*selected]
