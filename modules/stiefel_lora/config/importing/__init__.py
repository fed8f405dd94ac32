"""Import of configurations of other trainers.

Each program has tables of rules by key. A walk over all keys of the source applies
them, so that each key is taken, translated or ignored in the report.
"""

from __future__ import annotations

from .import_report import Entry, Report
from .lean_result import Imported
from .opening_source import import_file, import_words, is_of_other_program
from .source_files import without_other_files

__all__ = [
    "Entry",
    "Imported",
    "Report",
    "import_file",
    "import_words",
    "is_of_other_program",
    "without_other_files",
]
