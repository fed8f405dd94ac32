from __future__ import annotations

import pytest

from stiefel_lora import ConfigError
from stiefel_lora.jobs.sweep import combinations, ordered, parse_sweep


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("lora_rank=8,16", [["lora_rank=8"], ["lora_rank=16"]]),
        (" seed = 1 , 2 ", [["seed=1"], ["seed=2"]]),
        ("comment=a b", [["comment=a b"]]),
        (
            'layer_filter=["a","b"],["c"]',
            [['layer_filter=["a","b"]'], ['layer_filter=["c"]']],
        ),
        ('comment="a,b",c', [['comment="a,b"'], ["comment=c"]]),
        (
            "optimizer.name+learning_rate=adamw+1e-3,lora_plus+2e-3",
            [
                ["optimizer.name=adamw", "learning_rate=1e-3"],
                ["optimizer.name=lora_plus", "learning_rate=2e-3"],
            ],
        ),
        ("learning_rate=1e+0,2e+0", [["learning_rate=1e+0"], ["learning_rate=2e+0"]]),
    ],
)
def test_what_is_read(text, points):
    assert parse_sweep(text) == points


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lora_rank", "does not have the form KEY=V1,V2"),
        ("lora_rank=", "does not have the form KEY=V1,V2"),
        ("=8", "does not have the form KEY=V1,V2"),
        ("lora_rank=8,,16", "does not have the form KEY=V1,V2"),
        ("lora_rank=8,16,8", "contains 8 twice"),
        (
            "a+b=1,2",
            "1 in 'a+b=1,2' must have 2 values joined by +, one for each of a, b.",
        ),
        ("a..b=1", "must have the form KEY=VALUE"),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(ConfigError) as error:
        parse_sweep(text)
    assert message in str(error.value)


def test_every_combination_in_order():
    found = list(combinations(["a=1,2", "b=3,4"], []))
    assert found == [["a=1", "b=3"], ["a=1", "b=4"], ["a=2", "b=3"], ["a=2", "b=4"]]


def test_no_sweep_is_one_job():
    assert list(combinations([], ["a=1"])) == [[]]


@pytest.mark.parametrize(
    ("sweeps", "fixed", "message"),
    [
        (["a=1", "a=2"], [], "--sweep: a is given twice"),
        (["a+b=1+2", "b=3"], [], "--sweep: b is given twice"),
        (["a=1,2"], ["a=3"], "--sweep: a is also in --set"),
    ],
)
def test_a_key_has_one_place(sweeps, fixed, message):
    with pytest.raises(ConfigError, match=message):
        list(combinations(sweeps, fixed))


def test_a_swept_optimizer_comes_before_options_that_are_set():
    swept = ["lora_rank=4", "optimizer.name=adamw"]
    found = ordered(swept, ["optimizer.weight_decay=0.1"])
    assert found == [
        "optimizer.name=adamw",
        "optimizer.weight_decay=0.1",
        "lora_rank=4",
    ]
