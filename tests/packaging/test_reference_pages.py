"""Pages written from the code are up to date, and have every key and option."""

from __future__ import annotations

import reference_pages
from stiefel_lora.config import TrainConfig
from stiefel_lora.methods import BUILT_IN, CATALOGUE


def test_pages_are_up_to_date() -> None:
    names = [path.name for path in reference_pages.stale()]
    assert names == [], f"run: {reference_pages.COMMAND}"


def test_every_setting_has_a_row_in_a_group() -> None:
    text = "\n".join(reference_pages.settings())
    left_out = {"comment"}
    assert not [
        key
        for key in TrainConfig.model_fields
        if key not in left_out and f"\n| `{key}` |" not in text
    ]
    assert "## File" not in text
    assert "| `lora_rank` | LoRA rank | `16` | integer, from 1 to 4,096 |" in text


def test_every_option_of_every_method_has_a_row() -> None:
    text = "\n".join(reference_pages.optimizer_options())
    for name in BUILT_IN:
        _, _, section = text.partition(f"`{name}`: ")
        section = section.partition("\n## ")[0]
        options = CATALOGUE[name].options
        assert not [o.name for o in options if f"\n| `{o.name}` |" not in section], name


def test_cells_do_not_break_the_table() -> None:
    assert reference_pages.escaped("a|b *c* `*d*`") == r"a\|b \*c\* `*d*`"
