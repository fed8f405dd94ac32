"""An image and its captions in the browser as they are used in training."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

from nicegui import run, ui

from ....config import TrainConfig
from ....data.folder import CaptionedImage
from ....data.unreadable import UnreadableImage
from ...controllers.training_preview import Use, trained_image, uses_of
from ..crops import crop_address
from .message_box import Message

if TYPE_CHECKING:
    from ..context import WebContext

__all__ = ["TrainingBox", "TrainingQuestion"]

_SIDE = 360


@dataclasses.dataclass(frozen=True)
class TrainingQuestion:
    """Image whose use in training is shown."""

    image: CaptionedImage
    config: TrainConfig
    concept: int
    """Number of the concept, of which those for validation are last."""

    training: bool
    """Whether it is a training image and not a validation image."""


class TrainingBox:
    """Table with the captions of the first uses of an image, and the crop of one.

    Args:
        context: settings and folders of the server.
    """

    def __init__(self, context: WebContext) -> None:
        self._context = context
        self._question: TrainingQuestion | None = None
        self._uses: list[Use] = []
        self._number = 0
        columns = [
            {"name": name, "label": label, "field": name, "align": "left"}
            for name, label in (("use", "Use"), ("caption", "Caption in training"))
        ]
        with ui.element("div").classes("sl-caption-box"):
            self.crop = ui.image().props("fit=contain no-spinner")
            self.crop.props["alt"] = "Crop in training"
            self.crop.classes("sl-preview")
            with ui.element("div").classes("sl-editor"):
                self.note = Message()
                self.table = ui.table(columns=columns, rows=[], row_key="use")
                self.table.props("dense flat wrap-cells hide-pagination")
                self.table.props["pagination"] = {"rowsPerPage": 0}
                self.table.classes("w-full sl-uses")
                self.table.on("rowClick", self._clicked, [[], ["use"], []])
        self.crop.set_visibility(False)

    async def show(self, question: TrainingQuestion | None) -> None:
        """Show an image with the current settings, or nothing."""
        if question == self._question:
            return
        self._question = question
        if question is None:
            self._show_uses([], "")
            return
        try:
            uses = await run.io_bound(functools.partial(_uses_in, question))
        except UnreadableImage as error:
            uses, problem = [], f"This image is skipped: {error}."
        else:
            problem = ""
        # Another one may have been asked for in the meantime.
        if question is self._question and uses is not None:
            self._show_uses(uses, problem)

    def _show_uses(self, uses: list[Use], problem: str) -> None:
        self._uses = uses
        self._number = min(self._number, max(0, len(uses) - 1))
        self.table.rows = [
            {"use": number + 1, "caption": use.shown} for number, use in enumerate(uses)
        ]
        self.table.set_visibility(bool(uses))
        self.crop.set_visibility(bool(uses))
        self.note.say(problem, "error")
        if uses:
            self._show_crop()

    def _clicked(self, event: Any) -> None:
        number = int(event.args[1]["use"]) - 1
        if 0 <= number < len(self._uses):
            self._number = number
            self._show_crop()

    def _show_crop(self) -> None:
        question = self._question
        if question is None:
            return
        use = self._uses[self._number]
        self.note.say(f"Use {self._number + 1}: {use.description}", "quiet")
        url = crop_address(
            self._context,
            question.concept,
            question.image.path,
            _SIDE,
            training=question.training,
            number=self._number,
        )
        self.crop.set_source(url or "")


def _uses_in(question: TrainingQuestion) -> list[Use]:
    training = question.training
    found = trained_image(question.image, question.config, training=training)
    return uses_of(found, training=training)
