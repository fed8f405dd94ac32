"""Lengths and intervals in epochs or minutes, and their conversion to steps."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from stiefel_lora import ConfigError
from stiefel_lora.config import dump_full, lean, load_config, parse_config
from stiefel_lora.config.epochs import INTERVALS, has_epochs, in_steps, length_text
from stiefel_lora.config.json_schema import json_schema


def message_of(data: dict[str, Any], *overrides: str) -> str:
    with pytest.raises(ConfigError) as error:
        parse_config(data, overrides=overrides)
    return str(error.value)


@pytest.mark.parametrize("key", INTERVALS)
@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (250, 250),
        (0, 0),
        ("250 steps", 250),
        ("0 steps", 0),
        ("2 epochs", "2 epochs"),
        (" 1.0 Epoch ", "1 epoch"),
        (".50epochs", "0.5 epochs"),
        ("1 MINUTES", "1 minute"),
        ("10 minutes", "10 minutes"),
        ("100 minutes", "100 minutes"),
    ],
)
def test_an_interval_is_kept_in_one_form(key: str, given: object, kept: object) -> None:
    config = parse_config({key: given})
    assert getattr(config, key) == kept
    if isinstance(given, str):
        options = json_schema()["properties"][key]["anyOf"]
        (pattern,) = (o["pattern"] for o in options if o["type"] == "string")
        assert re.search(pattern, given)
    assert json.loads(dump_full(config))[key] == kept


FORMS = '"2 epochs" or "10 minutes"'
ANY = f"must be a number of steps, or a text such as {FORMS}"
RANGE = (
    "must be above 0 and at most 100,000,000 (0 without a unit: never), such as "
    f"{FORMS}"
)


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        (-1, "must be at least 0"),
        (2.5, "must be an integer"),
        (True, "must be an integer"),
        ("250", ANY),
        ("2 weeks", ANY),
        ("-2 epochs", ANY),
        ("1e3 epochs", ANY),
        (
            "9" * 5000 + " steps",
            f"must be a number of steps, or a text such as {FORMS}",
        ),
        ("", ANY),
        ("0 epochs", RANGE),
        ("0.0 minutes", RANGE),
        ("1.5 steps", f"must be an integer of at most 100,000,000 steps, or {FORMS}"),
    ],
)
def test_other_intervals_are_refused_with_the_valid_forms(
    given: object, rule: str
) -> None:
    assert message_of({"sample_every": given}).startswith(f"sample_every: {rule}, but")


def test_the_length_is_set_once() -> None:
    assert message_of({"epochs": 2, "steps": 1000}) == (
        "epochs: 2 is set together with steps=1000, and both determine the length of "
        "the run. Remove one of them."
    )
    assert "both determine" in message_of({}, "epochs=2", "steps=10")
    assert message_of({"epochs": 0}) == "epochs: must be greater than 0, but got 0."
    assert parse_config({"epochs": None, "steps": 7}).steps == 7


def test_the_nearest_layer_sets_the_length(tmp_path: Path) -> None:
    base = tmp_path / "base.json"
    base.write_text('{"steps": 500}')
    in_epochs = {"extends": "base.json", "epochs": 3}
    assert parse_config(in_epochs, folder=tmp_path).epochs == 3
    config = parse_config(in_epochs, folder=tmp_path, overrides=["steps=9"])
    assert (config.steps, config.epochs) == (9, None)
    config = load_config(base, ["epochs=0.5"])
    assert (config.epochs, length_text(config)) == (0.5, "0.5 epochs")
    base.write_text('{"epochs": 4}')
    config = parse_config({"extends": "base.json", "steps": 8}, folder=tmp_path)
    assert (config.steps, config.epochs) == (8, None)
    config = parse_config({"extends": "base.json", "epochs": None}, folder=tmp_path)
    assert config.epochs is None


@pytest.mark.parametrize(
    ("epochs", "per_epoch", "steps", "line"),
    [
        (2, Fraction(42), 84, "2 epochs of 42 steps: 84 steps."),
        (1, Fraction(1), 1, "1 epoch of 1 step: 1 step."),
        (2, Fraction(83, 2), 83, "2 epochs of 41.5 steps: 83 steps."),
        (3, Fraction(83, 2), 125, "3 epochs of 41.5 steps: 125 steps."),
        # As floats, 0.29 x 100 is more than 29.
        (0.29, Fraction(100), 29, "0.29 epochs of 100 steps: 29 steps."),
        (0.001, Fraction(10), 1, "0.001 epochs of 10 steps: 1 step."),
    ],
)
def test_epochs_become_steps(
    epochs: float, per_epoch: Fraction, steps: int, line: str
) -> None:
    config = parse_config({"epochs": epochs})
    assert has_epochs(config)
    found, text = in_steps(config, per_epoch)
    assert (found.steps, found.epochs, text) == (steps, None, line)
    assert not has_epochs(found)
    # The form that a run folder keeps.
    again = parse_config(json.loads(dump_full(found)))
    assert again == found


@pytest.mark.parametrize(
    ("given", "kept", "steps"),
    [
        (7, 7, 7),
        (" 7 steps", 7, 7),
        ("5%", "5 %", 4),
        ("0.50 %", "0.5 %", 0),
        ("100 %", "100 %", 82),
        ("1 epoch", "1 epoch", 41),
        (".5 EPOCHS", "0.5 epochs", 21),
    ],
)
def test_a_warmup_is_steps_a_share_or_epochs(
    given: object, kept: object, steps: int
) -> None:
    config = parse_config({"epochs": 2, "learning_rate_warmup_steps": given})
    assert config.learning_rate_warmup_steps == kept
    assert json.loads(dump_full(config))["learning_rate_warmup_steps"] == kept
    found, _ = in_steps(config, Fraction(41))
    assert found.resolved_warmup_steps == steps
    if isinstance(given, str):
        options = json_schema()["properties"]["learning_rate_warmup_steps"]["anyOf"]
        (pattern,) = (o["pattern"] for o in options if o["type"] == "string")
        assert re.search(pattern, given)


@pytest.mark.parametrize("given", ["5", "101 %", "-1 %", "2 minutes", "0 epochs", ""])
def test_other_warmups_are_refused_with_the_valid_forms(given: str) -> None:
    assert message_of({"learning_rate_warmup_steps": given}).startswith(
        "learning_rate_warmup_steps: must be a number of steps, or a text such as "
        '"5 %" or "2 epochs", but got '
    )


def test_a_warmup_in_epochs_fits_into_the_run() -> None:
    config = parse_config({"epochs": 1, "learning_rate_warmup_steps": "2 epochs"})
    with pytest.raises(ConfigError, match="learning_rate_warmup_steps: must be at "):
        in_steps(config, Fraction(41))


def test_the_end_of_text_encoders_becomes_a_step() -> None:
    settings = {
        "train_text_encoder": True,
        "text_encoder_stop_training_after": "0.5 epochs",
        "train_text_encoder_2": True,
        "text_encoder_2_stop_training_after": 7,
    }
    config = parse_config(settings)
    assert has_epochs(config)
    found, line = in_steps(config, Fraction(41))
    assert found.text_encoder_stops == {"text_encoder": 21, "text_encoder_2": 7}
    assert "text_encoder_stop_training_after 21" in line


def test_intervals_become_steps_and_minutes_stay() -> None:
    config = parse_config(
        {
            "epochs": 2,
            "validate_every": "0.5 epochs",
            "sample_every": "1 epoch",
            "checkpoint_every": "10 minutes",
            "save_every": 5,
            "rank_every": 7,
        }
    )
    found, line = in_steps(config, Fraction(41))
    assert [getattr(found, key) for key in INTERVALS] == [21, 41, "10 minutes", 5, 7]
    assert line == (
        "2 epochs of 41 steps: 82 steps, validate_every 21, sample_every 41."
    )
    found, line = in_steps(parse_config({"sample_every": "2 epochs"}), Fraction(9))
    assert (found.sample_every, found.steps) == (18, 1000)
    assert line == "1 epoch of 9 steps: sample_every 18."
    assert not has_epochs(parse_config({"sample_every": "2 minutes"}))


def test_rules_on_steps_wait_until_the_steps_are_known() -> None:
    config = parse_config({"epochs": 2, "learning_rate_warmup_steps": 1500})
    with pytest.raises(ConfigError, match="must be at most steps=84, but got 1500"):
        in_steps(config, Fraction(42))
    assert in_steps(config, Fraction(800))[0].steps == 1600


def test_an_unknown_number_of_steps_is_not_written() -> None:
    config = parse_config({"epochs": 2})
    assert "steps" not in json.loads(dump_full(config))
    assert parse_config(json.loads(dump_full(config))) == config
    assert not {"steps", "optimizer"} & lean(config).keys()
    assert lean(config)["epochs"] == 2


def test_early_stopping_does_not_depend_on_the_clock() -> None:
    watched = {"early_stop_patience": 2, "validation_split": 0.1}
    assert message_of({**watched, "validate_every": "5 minutes"}) == (
        "validate_every: '5 minutes' is not supported with early_stop_patience, "
        "because the step at which the run stops would depend on the speed of the "
        "machine. Use steps or epochs."
    )
    parse_config({**watched, "validate_every": "1 epoch"})
