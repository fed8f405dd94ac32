"""Messages before a model is downloaded. Nothing is downloaded here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from stiefel_lora._exceptions import ModelError
from stiefel_lora.checkpoints.hub import model_from_hub
from stiefel_lora.families import hub_models
from stiefel_lora.families.catalogue import records
from stiefel_lora.families.hub_models import download_note
from stiefel_lora.memory.settings import usual_settings
from stiefel_lora.ui.controllers.findings import examine

HUB_MODELS = {k: v for record in records() for k, v in record.hub_models.items()}

FLUX = "black-forest-labs/FLUX.1-dev"
ACCESS = (
    f"Access must be requested at https://huggingface.co/{FLUX}, and a token is "
    "required: log in with hf auth login, or set HF_TOKEN."
)


class Hub:
    """The client of the hub, which notes what it is to download."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.printed: list[str] = []
        self.error: Exception | None = None
        self._capsys = capsys

    def download(self, name: str) -> str:
        # All that the user has seen by now.
        self.printed.append(self._capsys.readouterr().err)
        if self.error:
            raise self.error
        return f"/cache/{name}"


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Independent of the downloads on this machine."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Hub:
    import diffusers

    made = Hub(capsys)
    monkeypatch.setattr(diffusers, "DiffusionPipeline", made)
    return made


@pytest.mark.parametrize("name", HUB_MODELS)
def test_size_license_and_access_come_before_the_download(name: str, hub: Hub) -> None:
    assert model_from_hub(name, download=True) == Path(f"/cache/{name}")
    (printed,) = hub.printed
    known = HUB_MODELS[name]
    assert printed.startswith(
        f"Downloading {name} from the Hugging Face Hub. About {known.gigabytes:g} GB, "
        f"license: {known.license}."
    )
    assert (ACCESS in printed) == (name == FLUX)


def test_of_an_unknown_model_the_page_is_named(hub: Hub) -> None:
    model_from_hub("somebody/model", download=True)
    assert hub.printed == [
        "Downloading somebody/model from the Hugging Face Hub. Size and license: "
        "https://huggingface.co/somebody/model.\n"
    ]


def test_a_check_downloads_and_prints_nothing(hub: Hub, capsys: Any) -> None:
    assert model_from_hub(FLUX, download=False) is None
    assert hub.printed == []
    assert capsys.readouterr().err == ""


def test_a_model_that_is_here_is_not_announced(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = "stiefel_lora.checkpoints.hub.cached_folder"
    monkeypatch.setattr(place, lambda _: tmp_path)
    assert model_from_hub(FLUX, download=False) == tmp_path
    model_from_hub(FLUX, download=True)
    assert hub.printed == [""]


def test_a_refused_download_ends_with_the_way_to_access(hub: Hub) -> None:
    hub.error = OSError("401 Client Error.\nmore")
    with pytest.raises(ModelError) as error:
        model_from_hub(FLUX, download=True)
    assert str(error.value).endswith(f"(401 Client Error.). {ACCESS}")
    with pytest.raises(ModelError, match=r"Correct base_model_name\.$"):
        model_from_hub("somebody/model", download=True)


def test_the_window_shows_it_at_the_field(monkeypatch: pytest.MonkeyPatch) -> None:
    found = examine({"base_model_name": FLUX, "model_type": "flux"})
    (remark,) = found.remarks["base_model_name"]
    assert remark == f"Is downloaded when training starts. {download_note(FLUX)}"
    monkeypatch.setattr(
        "stiefel_lora.ui.controllers.findings.cached_folder", lambda _: Path()
    )
    assert "base_model_name" not in examine({"base_model_name": FLUX}).remarks
    assert hub_models.access_hint("somebody/model") == ""


BYTES = {"sdxl": 4, "sd15": 4, "flux": 2}
"""Size of a stored number: the SDXL and SD 1.5 files are float32, FLUX.1's bfloat16."""


@pytest.mark.parametrize("family", BYTES)
def test_the_download_sizes_follow_from_the_shapes(family: str) -> None:
    import diffusers
    import transformers

    settings = usual_settings(family)
    with torch.device("meta"):
        parts: list[torch.nn.Module] = []
        for part in ("unet", "transformer", "vae"):
            if part in settings:
                kind = getattr(diffusers, settings[part]["_class_name"])
                parts.append(kind.from_config(settings[part]))
        first = transformers.CLIPTextConfig(**settings["text_encoder"])
        parts.append(transformers.CLIPTextModel(first))
        if family == "sdxl":
            second = transformers.CLIPTextConfig(**settings["text_encoder_2"])
            parts.append(transformers.CLIPTextModelWithProjection(second))
        if family == "flux":
            t5 = transformers.T5Config(**settings["text_encoder_2"])
            parts.append(transformers.T5EncoderModel(t5))
        if family == "sd15":
            # The safety checker, which is downloaded, too: CLIP's ViT-L/14.
            vision = transformers.CLIPVisionConfig(
                hidden_size=1024,
                intermediate_size=4096,
                num_hidden_layers=24,
                num_attention_heads=16,
                patch_size=14,
                projection_dim=768,
            )
            parts.append(transformers.CLIPVisionModelWithProjection(vision))
    count = sum(tensor.numel() for part in parts for tensor in part.parameters())
    (known,) = next(r for r in records() if r.name == family).hub_models.values()
    assert round(count * BYTES[family] / 1e9, 1) == known.gigabytes


def test_the_page_has_the_same_numbers() -> None:
    page = Path(__file__).parents[2] / "docs" / "training.md"
    text = page.read_text(encoding="utf-8")
    for name, known in HUB_MODELS.items():
        row = f"| `{name}` | about {known.gigabytes:g} GB | {known.license}"
        assert row in text
