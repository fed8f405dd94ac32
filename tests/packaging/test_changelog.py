"""The changelog's form: sections once and in order, every line in an entry."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECTIONS = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]


def releases(text: str) -> list[str]:
    """Text of each release, without its heading."""
    return re.split(r"^## .*\n", text, flags=re.MULTILINE)[1:]


def faults(release: str) -> list[str]:
    """What breaks the form of one release."""
    introduction, *parts = re.split(r"^### ", release, flags=re.MULTILINE)
    names = [part.partition("\n")[0] for part in parts]
    found = [f"section {name}" for name in names if name not in SECTIONS]
    if names != [name for name in SECTIONS if name in names]:
        found.append("order of " + ", ".join(names))
    if re.search(r"^- ", introduction, re.MULTILINE):
        found.append("an entry before the first section")
    for part in parts:
        lines = [line for line in part.splitlines()[1:] if line]
        found += [line for line in lines if not line.startswith(("- ", "  "))]
    return found


def test_every_entry_stands_in_one_section_of_its_kind():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    found = {fault for release in releases(text) for fault in faults(release)}
    assert found == set()


@pytest.mark.parametrize(
    ("release", "fault"),
    [
        ("### Fixed\n\n- a.\n\n### Fixed\n\n- b.\n", "order of Fixed, Fixed"),
        ("### Fixed\n\n- a.\n\n### Added\n\n- b.\n", "order of Fixed, Added"),
        ("### Added\n\n- a.\n\nNumerics: none.\n", "Numerics: none."),
        ("### Mended\n\n- a.\n", "section Mended"),
        ("- a.\n\n### Added\n", "an entry before the first section"),
    ],
)
def test_what_is_out_of_order_is_found(release: str, fault: str):
    assert fault in faults(release)
