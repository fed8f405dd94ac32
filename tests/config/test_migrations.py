from __future__ import annotations

import pytest

from stiefel_lora._exceptions import ConfigError
from stiefel_lora.config.migrations import MIGRATIONS, latest_version, migrate
from stiefel_lora.config.schema import SCHEMA_VERSION


def rename(data):
    return {"new": data.pop("old"), **data}


def double(data):
    return {**data, "new": data["new"] * 2}


def test_the_schema_is_of_the_latest_version():
    assert latest_version() == SCHEMA_VERSION
    assert MIGRATIONS == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"schema_version": 1, "old": 2}, {"schema_version": 3, "new": 4}),
        ({"schema_version": 2, "new": 2}, {"schema_version": 3, "new": 4}),
        ({"schema_version": 3, "new": 2}, {"schema_version": 3, "new": 2}),
        ({"new": 2}, {"schema_version": 3, "new": 2}),
    ],
)
def test_migrations_run_one_after_another(before, after):
    given = dict(before)
    assert migrate(before, [rename, double]) == after
    assert before == given


@pytest.mark.parametrize("version", [0, 4, True, "1", 1.0, None])
def test_versions_that_are_none(version):
    with pytest.raises(ConfigError, match=r"^schema_version: "):
        migrate({"schema_version": version}, [rename, double])
