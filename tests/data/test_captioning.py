from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import Blip2ForConditionalGeneration, Blip2Processor
from typer.testing import CliRunner

from helpers.runs import make_images
from helpers.tiny_blip import make_blip
from helpers.tiny_blip2 import make_blip2
from helpers.tiny_tagger import make_tagger
from stiefel_lora import ConfigError, DataError, ModelError
from stiefel_lora._commands import app
from stiefel_lora.captioning import (
    CaptionOptions,
    caption_folder,
    find_captioner,
    open_captioner,
)
from stiefel_lora.captioning.wd_tagger import readable_tag, tagger_input

RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.fixture(scope="module")
def tagger(tmp_path_factory) -> Path:
    return make_tagger(tmp_path_factory.mktemp("models") / "tagger")


@pytest.fixture(scope="module")
def blip(tmp_path_factory) -> Path:
    return make_blip(tmp_path_factory.mktemp("models") / "blip")


def opened(model, **options):
    return open_captioner(find_captioner(str(model)), CaptionOptions(**options))


def filled(color, size=(20, 20)):
    return Image.new("RGB", size, color)


def caption(*arguments):
    result = CliRunner().invoke(app, ["caption", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_channels_range_padding_and_categories_are_those_of_the_taggers(tagger):
    found = opened(tagger)
    # Characters come first; ratings and other categories are left out.
    assert found.caption(filled(RED)) == "some hero, red thing"
    assert found.caption(filled(BLUE)) == "blue thing"
    # Two thirds of the square are white: all channels are above 128.
    assert found.caption(filled(RED, (20, 60))) == (
        "some hero, red thing, blue thing, ^_^"
    )
    assert found.caption(filled((0, 0, 0))) == ""


def test_thresholds_and_excluded_tags(tagger):
    # Sigmoid of (120 - 128) / 16 is 0.378, of (119 - 128) / 16 is 0.363.
    assert opened(tagger).caption(filled((120, 0, 0))) == "red thing"
    assert opened(tagger, threshold=0.37).caption(filled((119, 0, 0))) == ""
    # Sigmoid of (240 - 220) / 16 is 0.777.
    hero = filled((240, 0, 0))
    assert opened(tagger).caption(hero) == "red thing"
    assert opened(tagger, character_threshold=0.7).caption(hero) == (
        "some hero, red thing"
    )
    options = {"exclude": ("red_thing", "other"), "character_threshold": 0.7}
    assert opened(tagger, **options).caption(hero) == "some hero"


def test_the_input_is_padded_with_white_in_the_middle():
    pixels = tagger_input(filled(RED, (2, 4)), 4)
    assert pixels.shape == (1, 4, 4, 3)
    assert pixels.dtype == np.float32
    assert pixels[0, 0].tolist() == [
        [255, 255, 255],
        [0, 0, 255],
        [0, 0, 255],
        [255, 255, 255],
    ]


def test_emoticons_keep_their_underscores():
    # The tags of selected_tags.csv that are faces.
    for name in ("0_0", "+_+", "<|>_<|>", ">_o", "@_@", "x_x", "||_||", "(o)_(o)"):
        assert readable_tag(name) == name
    assert readable_tag("looking_at_viewer") == "looking at viewer"
    assert readable_tag("k-on!_(series)") == "k-on! (series)"


@pytest.mark.parametrize("text", ["opt", "t5"])
def test_blip_2_gives_the_text_of_transformers(tmp_path, text):
    """Both language models of the published BLIP-2 models: OPT and Flan-T5."""
    folder = make_blip2(tmp_path / text, text)
    found = opened(folder, device="cpu")
    texts = [found.caption(filled(color)) for color in (RED, BLUE)]
    assert texts[0] != texts[1]
    processor = Blip2Processor.from_pretrained(folder)
    model = Blip2ForConditionalGeneration.from_pretrained(folder)
    for color, caption in zip((RED, BLUE), texts, strict=True):
        inputs = processor(images=filled(color), return_tensors="pt")
        tokens = model.generate(**inputs, max_new_tokens=60, num_beams=3)
        (expected,) = processor.batch_decode(tokens, skip_special_tokens=True)
        assert caption == expected.strip()
        assert caption.startswith("word")


def test_blip_describes_an_image_always_the_same(blip):
    found = opened(blip)
    texts = [found.caption(filled(color)) for color in (RED, BLUE, RED)]
    assert texts[0] == texts[2]
    assert texts[0].startswith("word")
    assert "[" not in texts[0]
    assert opened(blip, device="cpu").caption(filled(RED)) == texts[0]


def test_existing_captions_are_kept_unless_overwritten(tagger, tmp_path):
    folder = make_images(tmp_path / "p", count=4)
    for path in folder.glob("*.png"):
        filled(RED).save(path)
    (folder / "01.txt").write_text("")
    (folder / "02.txt").unlink()
    (folder / "03.txt").unlink()
    (folder / "metadata.jsonl").write_text('{"file_name": "03.png", "text": "mine"}')
    model = opened(tagger)
    done = caption_folder(folder, model)
    assert (done.written, done.kept, done.without) == (2, 2, {})
    assert (folder / "00.txt").read_text() == "thing 0"
    assert (folder / "01.txt").read_text() == "some hero, red thing\n"
    assert (folder / "02.txt").read_text() == "some hero, red thing\n"
    assert not (folder / "03.txt").exists()
    done = caption_folder(folder, model, overwrite=True)
    assert (done.written, done.kept) == (4, 0)
    assert (folder / "00.txt").read_text() == "some hero, red thing\n"


def test_images_without_a_new_caption_are_listed_with_the_reason(tagger, tmp_path):
    folder = make_images(tmp_path / "p", count=4)
    for path in folder.glob("*.png"):
        filled(RED).save(path)
    filled(RED).convert("RGBA").save(folder / "00.png")
    (folder / "01.png").write_bytes(b"\x89PNG broken")
    filled((0, 0, 0)).save(folder / "02.png")
    (folder / "04.jxl").write_bytes(b"")
    (folder / "metadata.jsonl").write_text("no JSON")
    (folder / "03.txt").write_bytes(b"\xff\xfe\xff")
    filled(RED).save(folder / "00.webp")
    done = caption_folder(folder, opened(tagger), overwrite=True)
    assert done.written == 1
    reasons = {path.name: reason for path, reason in done.without.items()}
    assert sorted(reasons) == ["00.webp", "01.png", "02.png", "03.png"]
    assert "Line 1 of" in done.remarks[0]
    assert "unsupported formats are skipped: .jxl (1)" in done.remarks[1]
    assert len(done.remarks) == 2
    assert reasons["00.webp"] == "00.txt is the caption of 00.png"
    assert "cannot identify" in reasons["01.png"]
    assert reasons["02.png"] == "the model recognized nothing"
    assert "not UTF-8" in reasons["03.png"]
    assert (folder / "01.txt").read_text() == "thing 1"
    assert (folder / "02.txt").read_text() == "thing 2"
    assert (folder / "03.txt").read_bytes() == b"\xff\xfe\xff"


def test_the_command(tagger, tmp_path):
    folder = make_images(tmp_path / "p", count=2)
    filled(BLUE).save(folder / "01.png")
    (folder / "01.txt").unlink()
    make_images(folder / "inner", count=1)
    filled(RED).save(folder / "inner" / "00.png")
    code, output, errors = caption(folder, "--model", tagger)
    assert (code, errors) == (0, "")
    assert output.splitlines() == [
        "1/1 01.png: blue thing",
        "1 caption was written. 1 existing caption was kept. Use --overwrite to "
        "replace them.",
    ]
    options = ["--overwrite", "--include-subdirectories", "--exclude", "red thing, x"]
    filled((0, 0, 0)).save(folder / "00.png")
    code, output, errors = caption(folder, "--model", tagger, *options)
    assert code == 0
    assert output.splitlines() == [
        "2/3 01.png: blue thing",
        "3/3 00.png: some hero",
        "2 captions were written.",
    ]
    assert errors.splitlines() == [
        "1 image has no new caption:",
        "  00.png: the model recognized nothing",
    ]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--model", "no/such/folder"], "neither a file, a folder nor a name"),
        (["--model", "TAGGER", "--threshold", "0"], "threshold: must be above 0"),
        (["--model", "TAGGER", "--character-threshold", "1.1"], "but is 1.1"),
        (["--model", "TAGGER", "--device", "cuda"], "does not support cuda"),
        (["--model", "BLIP", "--device", "cuda"], "cuda is not available"),
    ],
)
def test_wrong_options_are_reported_before_a_caption(
    arguments, text, tagger, blip, tmp_path
):
    folder = make_images(tmp_path / "p", count=1)
    names = {"TAGGER": tagger, "BLIP": blip}
    code, output, errors = caption(folder, *(names.get(a, a) for a in arguments))
    assert (code, output) == (2, "")
    assert text in errors
    assert (folder / "00.txt").read_text() == "thing 0"


def test_a_folder_that_is_missing_or_empty(tagger, tmp_path):
    code, _, errors = caption(tmp_path / "none", "--model", tagger)
    assert (code, errors) == (2, f"FOLDER: {tmp_path / 'none'} is not a folder.\n")
    with pytest.raises(DataError, match="contains no images"):
        caption_folder(tmp_path, opened(tagger))


def test_incomplete_and_other_models_are_refused(tagger, blip, tmp_path):
    def refused(folder):
        with pytest.raises(ModelError) as error:
            opened(folder).caption(filled(RED))
        return str(error.value)

    def copied(source, name):
        return Path(shutil.copytree(source, tmp_path / name))

    folder = copied(tagger, "a")
    (folder / "selected_tags.csv").unlink()
    assert "selected_tags.csv is missing" in refused(folder)
    folder = copied(tagger, "b")
    (folder / "model.onnx").unlink()
    assert "the ONNX file (such as model.onnx) is missing" in refused(folder)
    folder = copied(tagger, "c")
    (folder / "selected_tags.csv").write_text("name,category\na,0\n")
    assert "has 6 outputs, but its table 1 tags" in refused(folder)
    (folder / "selected_tags.csv").write_text("a;b\n1;2\n")
    assert "not a table of tags" in refused(folder)
    folder = copied(tagger, "d")
    (folder / "model.onnx").write_bytes(b"no onnx")
    assert "model.onnx cannot be loaded" in refused(folder)
    other = make_tagger(tmp_path / "e", layout="NCHW")
    assert "but that of a WD14 tagger is [batch, side, side, 3]" in refused(other)
    folder = copied(blip, "f")
    (folder / "config.json").write_text('{"model_type": "llava"}')
    assert "of the type 'llava'. Supported types are blip and blip-2" in refused(folder)
    folder = copied(blip, "g")
    (folder / "model.safetensors").unlink()
    assert "cannot be loaded" in refused(folder)
    assert "contains neither" in refused(make_images(tmp_path / "h", count=1))
    # A file of another name is found, too.
    folder = copied(tagger, "i")
    (folder / "model.onnx").rename(folder / "wd.onnx")
    assert opened(folder).caption(filled(BLUE)) == "blue thing"
    assert opened(folder / "wd.onnx").caption(filled(BLUE)) == "blue thing"


def test_a_missing_onnxruntime_is_named_with_its_command(tagger, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match="requires onnxruntime") as error:
        opened(tagger)
    assert "captions" in str(error.value) or "onnxruntime>=" in str(error.value)


def test_a_hub_model_is_only_downloaded_on_request(tagger, blip, tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    asked = []
    real_file = huggingface_hub.hf_hub_download
    real_all = huggingface_hub.snapshot_download

    def file(*names, local_files_only):
        asked.append(local_files_only)
        return real_file(*names, cache_dir=tmp_path, local_files_only=True)

    def everything(name, *, allow_patterns, local_files_only):
        asked.append(local_files_only)
        return real_all(name, cache_dir=tmp_path, local_files_only=True)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", file)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", everything)
    with pytest.raises(ModelError, match="Add --download to download it") as error:
        find_captioner("someone/tagger")
    assert "https://huggingface.co/someone/tagger" in str(error.value)
    assert set(asked) == {True}
    asked.clear()
    with pytest.raises(ModelError, match="cannot be downloaded"):
        find_captioner("someone/tagger", download=True)
    assert set(asked) == {False}
    # Once it is on this machine, it is found without the option.
    for name, source in (("tagger", tagger), ("blip", blip)):
        place = tmp_path / f"models--someone--{name}"
        (place / "refs").mkdir(parents=True)
        (place / "refs" / "main").write_text("0" * 40)
        shutil.copytree(source, place / "snapshots" / ("0" * 40))
    found = find_captioner("someone/tagger")
    assert open_captioner(found, CaptionOptions()).caption(filled(BLUE)) == (
        "blue thing"
    )
    assert find_captioner("someone/blip").tags is None
    # An interrupted download is not taken for a model.
    (found.folder / "model.onnx").unlink()
    with pytest.raises(ModelError, match="Add --download"):
        find_captioner("someone/tagger")
