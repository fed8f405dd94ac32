from __future__ import annotations

from typing import Any

import pytest

from stiefel_lora import ConfigError
from stiefel_lora.config import parse_config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"resolution": 1032},
            "resolution: must be a multiple of 16 for FLUX.1, but got 1032. Use 1024.",
        ),
        (
            {"samples": [{"prompt": "x", "height": 40}]},
            "samples.0.height: must be a multiple of 16 for FLUX.1, but got 40. Use "
            "32.",
        ),
        (
            {"bucket_step": 24},
            "bucket_step: must be a multiple of 16 for FLUX.1, but got 24. Use 16.",
        ),
        (
            {"samples": [{"prompt": "x", "negative_prompt": "y"}]},
            "samples.0.negative_prompt: has no effect for FLUX.1",
        ),
        (
            {"model_type": "sdxl", "text_encoder_2_sequence_length": 256},
            "is only supported for models with T5 (FLUX.1), but model_type is sdxl",
        ),
        (
            {"prediction_type": "v_prediction"},
            "prediction_type: 'v_prediction' is only supported for SDXL and SD 1.5. "
            "FLUX.1 always uses flow prediction. Remove it.",
        ),
    ],
)
def test_what_a_family_cannot_do_is_reported(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config({"model_type": "flux", **settings})
    assert message in str(error.value)
