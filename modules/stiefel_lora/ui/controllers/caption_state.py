"""Caption file of an image that is being edited."""

from __future__ import annotations

from pathlib import Path

from ...config.caption_extension import TEXT
from ...data.caption_files import write_caption
from .image_captions import caption_of, keep_other

__all__ = ["NO_CAPTION", "CaptionState"]

NO_CAPTION = "No caption yet. It is saved next to the image."


class CaptionState:
    """Caption file, which another program may change in the meantime.

    Args:
        image: path of the image.
        extension: extension of the file.
    """

    def __init__(self, image: Path, extension: str = TEXT) -> None:
        self.image = image
        self.extension = extension
        self.on_disk: str | None = None
        """Text of the file when it was last read, or None if there is no file."""

        self.problem = ""
        """Reason why the file cannot be read, or ""."""

    @property
    def file(self) -> Path:
        """Path of the caption file."""
        return self.image.with_suffix(self.extension)

    @property
    def is_foreign(self) -> bool:
        """Return whether another program has changed the file."""
        text, _ = caption_of(self.image, self.extension)
        return text != self.on_disk

    @property
    def question(self) -> str:
        """Message about a change by another program."""
        return f"Another program changed {self.file.name} while you edited the caption."

    @property
    def confirmation(self) -> str:
        """Message after saving."""
        return f"Saved {self.file.name}."

    def read(self, caption: str = "") -> str:
        """Read the file. Return its text, or ``caption`` if there is no file."""
        self.on_disk, self.problem = caption_of(self.image, self.extension)
        return caption if self.on_disk is None else self.on_disk

    def write(self, text: str) -> None:
        """Replace the file.

        Raises:
            OutputError: If it cannot be written.
        """
        write_caption(self.image, text, self.extension)
        self.on_disk, _ = caption_of(self.image, self.extension)

    def keep_other(self) -> None:
        """Copy the file of another program to a ``.bak`` file.

        Raises:
            OutputError: If it cannot be copied.
        """
        keep_other(self.image, self.extension)
