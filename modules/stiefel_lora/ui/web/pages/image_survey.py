"""Survey of the images of the settings, once for all browsers."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from nicegui import run

from ....config import TrainConfig
from ....data.decode_check import DecodeCheck
from ...controllers.survey import Survey, survey, survey_question
from ..served_images import DatasetRoots

if TYPE_CHECKING:
    from ..context import WebContext

__all__ = ["ImageSurvey", "survey_of_server"]


class ImageSurvey:
    """Survey that is repeated when the settings or files have changed.

    Args:
        images: folders whose images are shown. Others are not surveyed.
    """

    def __init__(self, images: DatasetRoots) -> None:
        self.found = Survey()
        self._images = images
        self._question: tuple[Any, ...] | None = None
        self._check = DecodeCheck()
        self._turn = 0

    async def look(self, config: TrainConfig, *, again: bool = False) -> Survey:
        """Return the survey of the settings.

        A first survey only reads headers. If there are images that have not been
        decoded yet, a second one decodes them.

        Args:
            config: the settings.
            again: whether files may have changed.
        """
        # Names and numbers of images elsewhere are not shown.
        served = self._images.serves
        config = config.model_copy(
            update={
                "concepts": tuple(filter(served, config.concepts)),
                "validation_concepts": tuple(
                    filter(served, config.validation_concepts)
                ),
            }
        )
        question = survey_question(config)
        if question == self._question and not again:
            return self.found
        self._question = question
        self._turn += 1
        turn = self._turn
        found = await run.io_bound(functools.partial(survey, config, self._check))
        if found is not None and found.undecoded and turn == self._turn:
            work = functools.partial(
                survey, config, self._check, lambda: None, lambda: turn != self._turn
            )
            found = await run.io_bound(work)
        if found is not None and turn == self._turn:
            self.found = found
        return self.found


_surveys: WeakKeyDictionary[WebContext, ImageSurvey] = WeakKeyDictionary()


def survey_of_server(context: WebContext) -> ImageSurvey:
    """Return the survey that all browsers share."""
    return _surveys.setdefault(context, ImageSurvey(context.images))
