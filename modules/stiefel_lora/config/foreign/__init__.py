"""Options of other trainers and the corresponding settings.

There is a table for each trainer with options that have another name here. ``KEYS``
contains the corresponding key (``concepts.repeats`` is ``repeats`` of a concept), and
``WITHOUT`` the reason why an option is not supported.
"""

from __future__ import annotations

from . import ai_toolkit, common, diffusers, onetrainer, sd_scripts

__all__ = ["FOREIGN_NAMES", "WITHOUT_COUNTERPART", "WORDS"]

_TABLES = (ai_toolkit, diffusers, onetrainer, sd_scripts)

FOREIGN_NAMES: dict[str, str] = dict(
    sorted(
        (name, ours)
        for table in (*_TABLES, common)
        for name, ours in table.KEYS.items()
    )
)
"""Corresponding keys by option name."""

WITHOUT_COUNTERPART: dict[str, str] = {
    name: reason
    for table in _TABLES
    for reason, names in table.WITHOUT.items()
    for name in names.split()
}
"""Reasons why options are not supported, to follow "because", by option name."""

WORDS = frozenset(common.KEYS)
"""Option names with another meaning in another section."""
