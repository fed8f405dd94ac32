"""Options of other trainers and their counterparts here.

There is one table per trainer, of its options that have another name here. ``KEYS``
maps to our key (``concepts.repeats`` is ``repeats`` of a concept), ``WITHOUT`` to the
reason why there is none.
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
"""Name -> our key."""

WITHOUT_COUNTERPART: dict[str, str] = {
    name: reason
    for table in _TABLES
    for reason, names in table.WITHOUT.items()
    for name in names.split()
}
"""Name -> reason why there is no such key, to stand after "because"."""

WORDS = frozenset(common.KEYS)
"""Names with another meaning in another section."""
