from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from stiefel_lora.config import Concept, Sample, TrainConfig
from stiefel_lora.config._base import setting
from stiefel_lora.config.optimizer import OPTIMIZER_MODELS
from stiefel_lora.methods import BUILT_IN, CATALOGUE, PACKAGED, find_record
from stiefel_lora.ui.controllers.fields import Kind, fields_of
from stiefel_lora.ui.controllers.pages import (
    TABS,
    all_fields,
    optimizer_fields,
    sections,
)

MODELS = [TrainConfig, Concept, Sample, *OPTIMIZER_MODELS.values()]


class Inner(BaseModel):
    path: Path
    weight: float = 1.0


class Colour(str, Enum):
    RED = "red"
    BLUE = "blue"


class EveryKind(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    flag: bool = False
    maybe_flag: bool | None = None
    whole: Annotated[int, Field(ge=1, le=9)] = 3
    number: Annotated[float, Field(gt=0)] = 0.5
    maybe: Annotated[float, Field(gt=0, le=2)] | None = setting(
        None, label="Perhaps", unset_means="as many as there are"
    )
    """A number."""

    text: str = "a"
    choice: Literal["x", "y"] = "x"
    maybe_choice: Literal["x", "y"] | None = None
    colour: Colour = Colour.RED
    folder: Path = Path("runs")
    several: tuple[Literal["p", "q"], ...] = ("p",)
    words: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    records: tuple[Inner, ...] = ()
    record: Inner | None = None
    table: dict[str, Any] = {}
    either: int | str = 1
    fixed: Literal[1] = 1


KINDS = {
    "flag": Kind.FLAG,
    "maybe_flag": Kind.FLAG,
    "whole": Kind.INTEGER,
    "number": Kind.NUMBER,
    "maybe": Kind.NUMBER,
    "text": Kind.TEXT,
    "choice": Kind.CHOICE,
    "maybe_choice": Kind.CHOICE,
    "colour": Kind.CHOICE,
    "folder": Kind.PATH,
    "several": Kind.CHOICES,
    "words": Kind.LINES,
    "numbers": Kind.LINES,
    "records": Kind.RECORDS,
    "record": Kind.RECORD,
    "table": Kind.JSON,
    "either": Kind.JSON,
}


@pytest.fixture(scope="module")
def fields():
    schema = EveryKind.model_json_schema(mode="serialization")
    return {field.key: field for field in fields_of(schema, schema["$defs"])}


def test_every_kind_of_type_has_its_kind_of_field(fields):
    assert {key: field.kind for key, field in fields.items()} == KINDS


def test_a_field_has_its_bounds_choices_and_parts(fields):
    assert (fields["whole"].low, fields["whole"].high) == (1, 9)
    assert (fields["maybe"].low, fields["maybe"].high) == (0, 2)
    assert fields["maybe_choice"].choices == ("x", "y")
    assert [part.kind for part in fields["records"].parts] == [Kind.PATH, Kind.NUMBER]
    optional = {key for key, field in fields.items() if field.optional}
    assert optional == {"maybe_flag", "maybe", "maybe_choice", "record"}


def test_a_field_has_its_label_and_what_it_means_when_it_is_empty(fields):
    maybe = fields["maybe"]
    assert (maybe.label, maybe.unset_means) == ("Perhaps", "as many as there are")
    assert maybe.explanation == "A number. Unset: as many as there are."
    assert fields["text"].unset_means == ""


def test_every_setting_stands_on_one_tab():
    placed = [field.key for section in sections() for field in section.fields]
    assert sorted(placed) == sorted(all_fields())
    fixed = {"schema_version", "model_type"}
    assert set(TrainConfig.model_fields) - set(placed) <= fixed
    assert {section.tab for section in sections()} == set(TABS)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_key_has_a_label_of_its_own(model):
    written = {key: field.title for key, field in model.model_fields.items()}
    written.pop("name", None)
    assert all(written.values()), written
    assert len(set(written.values())) == len(written)


def test_every_option_has_a_label():
    for name in (*BUILT_IN, *PACKAGED):
        labels = [option.label for option in find_record(name).options]
        assert all(labels), name
        assert len(set(labels)) == len(labels)


def test_every_setting_has_documentation():
    assert not [key for key, field in all_fields().items() if not field.doc]


@pytest.mark.parametrize("name", OPTIMIZER_MODELS)
def test_an_optimizer_shows_exactly_its_options(name):
    keys = [field.key for field in optimizer_fields(name)]
    entry = find_record(name)
    options = [option.name for option in entry.options] if entry else ["class"]
    others = ["options"] if name not in CATALOGUE else []
    assert keys == options + others
