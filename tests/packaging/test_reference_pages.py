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
    missing = [
        key
        for key in TrainConfig.model_fields
        if key not in left_out and f"\n| `{key}` |" not in text
    ]
    assert not missing, (
        "run: stiefel-lora schema --output training_presets/train_config.schema.json, "
        f"then {reference_pages.COMMAND}"
    )
    assert "## File" not in text
    row = "| `lora_rank` | `16` | integer, from 1 to 4,096 | *LoRA rank*: "
    assert row in text


def test_every_option_of_every_method_has_a_row() -> None:
    text = "\n".join(reference_pages.optimizer_options())
    for name in BUILT_IN:
        _, _, section = text.partition(f"`{name}`: ")
        section = section.partition("\n## ")[0]
        options = CATALOGUE[name].options
        assert not [o.name for o in options if f"\n| `{o.name}` |" not in section], name


def test_markup_in_texts_is_escaped_and_code_is_not() -> None:
    assert reference_pages.escaped("a *b* <c> `*d*`") == r"a \*b\* \<c> `*d*`"
    assert list(reference_pages.table(["x"], [["a|b"]]))[-1] == r"| a\|b |"


def test_rows_have_as_many_cells_as_their_head() -> None:
    for lines in reference_pages.PAGES.values():
        cells = 0
        for line in lines():
            number = line.replace(r"\|", "").count("|")
            assert number in (0, cells) or not cells or not line.startswith("|"), line
            cells = number if line.startswith("|") else 0
