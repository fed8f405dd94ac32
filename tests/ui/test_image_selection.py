"""Selection of several images, as in file managers."""

from __future__ import annotations

from pathlib import Path

from stiefel_lora.ui.controllers.image_selection import ImageSelection

SHOWN = [Path(name) for name in "abcdef"]
A, B, C, D, E, F = SHOWN


def test_a_click_selects_one_image() -> None:
    found = ImageSelection()
    found.select(B, SHOWN)
    found.select(D, SHOWN)
    assert found.among(SHOWN) == [D]


def test_images_are_added_and_removed() -> None:
    found = ImageSelection()
    found.select(D, SHOWN)
    found.select(A, SHOWN, adds=True)
    assert found.among(SHOWN) == [A, D]
    found.select(D, SHOWN, adds=True)
    assert found.among(SHOWN) == [A]


def test_a_range_is_selected_in_both_directions() -> None:
    found = ImageSelection()
    found.select(C, SHOWN)
    found.select(E, SHOWN, extends=True)
    assert found.among(SHOWN) == [C, D, E]
    found.select(A, SHOWN, extends=True)
    assert found.among(SHOWN) == [A, B, C]
    found.select(F, SHOWN, adds=True)
    found.select(E, SHOWN, adds=True, extends=True)
    assert found.among(SHOWN) == [A, B, C, E, F]


def test_only_images_of_the_list_are_edited() -> None:
    found = ImageSelection()
    found.select(A, SHOWN)
    found.select(C, SHOWN, extends=True)
    assert found.among([C, D]) == [C]
    # The first image of the range is filtered out: the click selects one.
    found.select(D, [C, D], extends=True)
    assert found.among([C, D]) == [D]
