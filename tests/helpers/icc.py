"""ICC profiles made by hand, byte by byte (ICC.1:2010), for tests of conversions."""

from __future__ import annotations

import struct
from collections.abc import Sequence

# Columns of the matrices of sRGB and Display P3, adapted to D50 (Bradford).
SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7139))
DISPLAY_P3 = (
    (0.51512, 0.2412, -0.00105),
    (0.29198, 0.69225, 0.04189),
    (0.1571, 0.06657, 0.78407),
)
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
D50 = (0.9642, 1.0, 0.8249)


def rgb_profile(
    primaries: Sequence[Sequence[float]] = DISPLAY_P3,
    curve: Sequence[float] = SRGB_CURVE,
) -> bytes:
    tags = {"wtpt": _xyz(D50)}
    for letter, column in zip("rgb", primaries, strict=True):
        tags[f"{letter}XYZ"] = _xyz(column)
        tags[f"{letter}TRC"] = _curve(curve)
    return _profile("RGB ", "XYZ ", tags)


def gray_profile(curve: Sequence[float] = (1.0,)) -> bytes:
    return _profile("GRAY", "XYZ ", {"wtpt": _xyz(D50), "kTRC": _curve(curve)})


def cmyk_profile(corners: dict[tuple[int, int, int, int], tuple[float, ...]]) -> bytes:
    """A table of two points an ink; corners that are not given are black."""
    grid = bytearray()
    for number in range(16):
        inks = tuple(number >> place & 1 for place in (3, 2, 1, 0))
        lightness, a, b = corners.get(inks, (0.0, 0.0, 0.0))
        grid += bytes(
            (round(lightness * 2.55), round(a + 128) & 255, round(b + 128) & 255)
        )
    straight = bytes(range(256))
    matrix = struct.pack(">9i", *(65536 if n % 4 == 0 else 0 for n in range(9)))
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + matrix
    table += straight * 4 + bytes(grid) + straight * 3
    return _profile("CMYK", "Lab ", {"wtpt": _xyz(D50), "A2B0": table}, b"prtr")


def _profile(
    space: str, connection: str, tags: dict[str, bytes], kind: bytes = b"mntr"
) -> bytes:
    tags = {"desc": _text("test"), "cprt": b"text" + bytes(4) + b"none\0", **tags}
    place = 128 + 4 + 12 * len(tags)
    directory, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        padded = content + bytes(-len(content) % 4)
        directory += name.encode() + struct.pack(">II", place, len(content))
        place += len(padded)
        body += padded
    head = struct.pack(">I4sI4s4s4s", place, b"\0" * 4, 0x02400000, kind,
                       space.encode(), connection.encode())  # fmt: skip
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += struct.pack(">3i", *(round(value * 65536) for value in D50))
    return head.ljust(128, b"\0") + directory + body


def _xyz(values: Sequence[float]) -> bytes:
    whole = (round(value * 65536) for value in values)
    return b"XYZ " + bytes(4) + struct.pack(">3i", *whole)


def _curve(numbers: Sequence[float]) -> bytes:
    """A parametric curve: a power, or sRGB's five numbers."""
    kind = {1: 0, 5: 3}[len(numbers)]
    whole = [round(number * 65536) for number in numbers]
    head = b"para" + bytes(4) + struct.pack(">HH", kind, 0)
    return head + struct.pack(f">{len(whole)}i", *whole)


def _text(text: str) -> bytes:
    data = text.encode() + b"\0"
    return (
        b"desc" + bytes(4) + struct.pack(">I", len(data)) + data + bytes(4 + 4 + 3 + 67)
    )
