"""Variables of scripts that contain a command line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["unset_variables", "with_variables"]

_ASSIGNED = re.compile(
    r"""\s*(?:export\s+|set\s+)?"?([A-Za-z_]\w*)=("[^"]*"|'[^']*'|[^\s"'`;&|()]*)"?;?\s*"""
)
_USED = re.compile(r"\$\{([A-Za-z_]\w*)\}|\$([A-Za-z_]\w*)|%([A-Za-z_]\w*)%")
_CONTINUED = ("\\", "^", "`")


def with_variables(text: str) -> str:
    r"""Replace variables by the values that the same script assigns to them.

    Lines that only assign a variable are removed. Others, such as those of the
    environment, stay.

    >>> with_variables('DIR="/a b"\ntrain.py --out "$DIR/c" --x ${Y}')
    'train.py --out "/a b/c" --x ${Y}'
    """
    values: dict[str, str] = {}

    def value_of(match: re.Match[str]) -> str:
        return values.get(match[1] or match[2] or match[3], match[0])

    kept = []
    continued = False
    for line in text.splitlines():
        found = None if continued else _ASSIGNED.fullmatch(line)
        continued = line.rstrip().endswith(_CONTINUED)
        if found and not continued:
            values[found[1]] = _USED.sub(value_of, found[2].strip("\"'"))
        else:
            kept.append(_USED.sub(value_of, line))
    return "\n".join(kept)


def unset_variables(options: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the variables without a value, and the options that contain them."""
    found: dict[str, list[str]] = {}
    for key, value in options.items():
        for part in value if isinstance(value, list) else [value]:
            for match in _USED.finditer(part if isinstance(part, str) else ""):
                keys = found.setdefault(match[0], [])
                keys += [] if key in keys else [key]
    return found
