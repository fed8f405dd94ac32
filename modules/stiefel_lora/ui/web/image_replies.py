"""Images for browsers: decoded by the guarded reader, reduced, and kept."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import io
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from starlette.responses import Response

from ...data.image_formats import is_image_name
from ...data.preview_image import fitted, preview_image
from ...data.unreadable import UnreadableImage
from .security import Refusal, whole_number

__all__ = ["SIDES", "ImageReplies"]

SIDES = (64, 2048)
"""Shortest and longest edge to which images are reduced, in pixels."""

# Less than the training allows: two of them are decoded at once in this process.
_MEGAPIXELS = 100.0
_AT_ONCE = 2
_KEPT_BYTES = 64 << 20
_QUALITY = 85

Reader = Callable[[], Image.Image]


@dataclasses.dataclass(frozen=True)
class _Key:
    """Version of a reduced image."""

    path: Path
    stamp: tuple[int, int]
    """Time of the last change, and size of the file."""

    side: int
    version: str

    @property
    def tag(self) -> str:
        """Value of the header ETag."""
        time, size = self.stamp
        return f'"{time:x}-{size:x}-{self.side:x}{self.version}"'


class ImageReplies:
    """Reduced images, of which the last ones are kept in memory."""

    def __init__(self) -> None:
        self._kept: OrderedDict[_Key, tuple[bytes, str]] = OrderedDict()
        self._bytes = 0
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def reply(
        self,
        path: Path,
        side: str,
        known: str,
        *,
        read: Reader | None = None,
        version: str = "",
    ) -> Response:
        """Return a response with an image.

        Args:
            path: checked path of the image.
            side: length of the longer edge in pixels, as in the request.
            known: header If-None-Match of the request.
            read: function that decodes the image to RGBA. By default, the whole image
                is shown.
            version: text that differs if the result of ``read`` differs.

        Raises:
            Refusal: If the file is no image or damaged, or ``side`` is not allowed.
        """
        least, most = SIDES
        pixels = whole_number(side, len(str(most)))
        if pixels is None or not least <= pixels <= most:
            raise Refusal(400, f"side must be between {least} and {most} pixels.")
        if not is_image_name(path):
            raise Refusal(415, "Only images are served here.")
        try:
            status = path.stat()
        except OSError:
            raise Refusal(404, "There is no such file.") from None
        key = _Key(path, (status.st_mtime_ns, status.st_size), pixels, version)
        headers = {"etag": key.tag, "cache-control": "private, no-cache"}
        if known == key.tag:
            return Response(status_code=304, headers=headers)
        content, kind = await self._content(key, read)
        return Response(content, media_type=kind, headers=headers)

    async def _content(self, key: _Key, read: Reader | None) -> tuple[bytes, str]:
        whole = functools.partial(preview_image, key.path, key.side, _MEGAPIXELS)
        async with self._turn:
            if key not in self._kept:
                try:
                    work = read or whole
                    found = await asyncio.to_thread(_encoded, work, key.side)
                except UnreadableImage as error:
                    message = f"The image cannot be read: {error}."
                    raise Refusal(415, message) from None
                self._kept[key] = found
                self._bytes += len(found[0])
            self._kept.move_to_end(key)
            found = self._kept[key]
            while self._bytes > _KEPT_BYTES:
                _, (content, _) = self._kept.popitem(last=False)
                self._bytes -= len(content)
            return found


def _encoded(read: Reader, side: int) -> tuple[bytes, str]:
    """Decode, reduce and encode an image. Return the file and its type."""
    image = read()
    if max(image.size) > side:
        image = fitted(image, side)
    file = io.BytesIO()
    if image.getchannel("A").getextrema() == (255, 255):
        image.convert("RGB").save(file, "JPEG", quality=_QUALITY)
        return file.getvalue(), "image/jpeg"
    image.save(file, "PNG")
    return file.getvalue(), "image/png"
