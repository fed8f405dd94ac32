"""Reading of text files in UTF-8, or in the encoding of their byte order mark."""

from __future__ import annotations

import codecs
from pathlib import Path

__all__ = ["is_text", "not_text", "read_text"]

# UTF-32 stands first: its mark begins with that of UTF-16. Windows' Notepad writes
# UTF-16 under the name "Unicode".
_MARKS = (
    (codecs.BOM_UTF8, "UTF-8", "utf-8"),
    (codecs.BOM_UTF32_LE, "UTF-32", "utf-32-le"),
    (codecs.BOM_UTF32_BE, "UTF-32", "utf-32-be"),
    (codecs.BOM_UTF16_LE, "UTF-16", "utf-16-le"),
    (codecs.BOM_UTF16_BE, "UTF-16", "utf-16-be"),
)

_NUL = "null character"


def read_text(path: Path) -> str:
    r"""Read a text file. Line endings are converted to ``\n``.

    Raises:
        UnicodeDecodeError: If the bytes are not valid text. See :func:`not_text`.
        OSError: If the file is missing or cannot be read.
    """
    data = path.read_bytes()
    mark, name, codec = _encoding_of(data)
    try:
        text = data[len(mark) :].decode(codec)
    except UnicodeDecodeError as error:
        place = error.start + len(mark)
        raise UnicodeDecodeError(name, data, place, place + 1, error.reason) from error
    if "\0" in text:
        # Nearly always UTF-16 without its mark, whose Latin letters are valid UTF-8
        # with a NUL after each.
        place = data.index(b"\0", len(mark))
        raise UnicodeDecodeError(name, data, place, place + 1, _NUL)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def is_text(value: str) -> bool:
    r"""Return whether a string can be written to a text file.

    It must not contain null characters or lone surrogates.

    File names that are not UTF-8 contain lone surrogates (PEP 383).

    >>> is_text("caf\u00e9"), is_text("a\0b"), is_text("\udcff")
    (True, False, False)
    """
    try:
        return b"\0" not in value.encode("utf-8")
    except UnicodeEncodeError:
        return False


def not_text(error: UnicodeDecodeError, what: str = "UTF-8") -> str:
    """Return a description of invalid text, such as ``not UTF-8 (byte 3)``."""
    if error.reason == _NUL:
        # Valid in UTF-8, so that another description would be wrong.
        return (
            f"not plain text (null character at byte {error.start}, as in UTF-16 "
            "without a byte order mark)"
        )
    if error.encoding == "UTF-8":
        return f"not {what} (byte {error.start})"
    return f"damaged {error.encoding} (byte {error.start}) and not {what}"


def _encoding_of(data: bytes) -> tuple[bytes, str, str]:
    """Return byte order mark, name and codec of an encoding. The default is UTF-8."""
    for mark, name, codec in _MARKS:
        if data.startswith(mark):
            return mark, name, codec
    return b"", "UTF-8", "utf-8"
