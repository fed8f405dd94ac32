"""Whatever a file or ``--set`` holds: a configuration or messages, nothing else."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from stiefel_lora._exceptions import ConfigError
from stiefel_lora.config import TrainConfig, parse_config, remarks
from stiefel_lora.config.concept import Concept
from stiefel_lora.config.optimizer import OPTIMIZER_MODELS
from stiefel_lora.config.parts import Sample

KEYS = [
    *TrainConfig.model_fields,
    *Concept.model_fields,
    *Sample.model_fields,
    *(field for model in OPTIMIZER_MODELS.values() for field in model.model_fields),
    *OPTIMIZER_MODELS,
    "class",
    "0",
]
words = st.sampled_from(KEYS) | st.text(max_size=4)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | words
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4)
    ),
    max_leaves=8,
)
files = st.dictionaries(words, values, max_size=5)
typed = st.sampled_from(KEYS) | st.text("abc.=[ 01", max_size=4)
overrides = st.lists(
    st.builds(
        "{}={}".format, st.lists(typed, max_size=3).map(".".join), values.map(str)
    ),
    max_size=3,
)


def messages_for(file: dict[str, object], lines: list[str]) -> list[str]:
    try:
        return [str(found) for found in remarks(parse_config(file, overrides=lines))]
    except ConfigError as error:
        return str(error).split("\n")


@given(files, overrides)
@settings(max_examples=100, deadline=None)
def test_junk_gets_messages(file, lines):
    found = messages_for(file, lines)
    assert all(line.endswith((".", "?")) for line in found), found
    assert not any("invalid value" in line for line in found), found
