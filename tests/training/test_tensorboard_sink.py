"""TensorBoard's files on a full disk: one message, and the run continues."""

from __future__ import annotations

import contextlib
import errno
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2, metadata
from torch.utils.tensorboard import FileWriter, SummaryWriter

from stiefel_lora.config import parse_config
from stiefel_lora.training.logging.hparams import hparams_of
from stiefel_lora.training.logging.tensorboard_sink import TensorBoardSink


@contextlib.contextmanager
def no_room() -> Iterator[None]:
    """Let no file grow, as on a full disk.

    No fixture: pytest reports a test before fixtures end, and its output may be a file.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def use(sink: TensorBoardSink) -> None:
    for step in (1, 2):
        sink.scalars("train", step, {"loss/train": 1.0, "gradient/norm": 2.0})
        sink.histogram("ranks", step, [1.0, 2.0])
        sink.image("samples/0", step, Image.new("RGB", (8, 8)))
    sink.close()


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("resumed", [None, 4])
def test_no_room_from_the_start(
    tmp_path: Path, resumed: int | None, capsys: Any
) -> None:
    with no_room():
        use(TensorBoardSink(tmp_path / "tensorboard", resumed))
    shown = capsys.readouterr().err
    assert shown.count("is not writable (") == 1
    assert "logged to events.jsonl" in shown


def test_a_file_in_place_of_the_folder(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "tensorboard").write_text("not a folder")
    use(TensorBoardSink(tmp_path / "tensorboard"))
    assert capsys.readouterr().err.count("is not writable (") == 1


@pytest.mark.parametrize(
    "call", ["add_summary", "add_histogram", "flush", "add_image", "close"]
)
def test_no_room_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, call: str
) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    # Numbers go to the file in one event, past the method for a single curve.
    owner = FileWriter if call == "add_summary" else SummaryWriter
    monkeypatch.setattr(owner, call, refuse)
    use(TensorBoardSink(tmp_path / "tensorboard"))
    assert capsys.readouterr().err.count("No space left on device") == 1


def test_the_tab_of_custom_scalars_shows_the_losses_and_summaries(
    tmp_path: Path,
) -> None:
    sink = TensorBoardSink(tmp_path)
    sink.scalars("train", 1, {"loss/train_smooth": 1.0, "effective_rank/mean": 3.0})
    sink.close()
    read = EventAccumulator(str(tmp_path)).Reload()
    (event,) = read.Tensors(metadata.CONFIG_SUMMARY_TAG)
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    charts = {chart.title: chart.multiline.tag for chart in layout.category[0].chart}
    assert list(charts)[:2] == ["loss", "share of the rank"]
    assert list(charts["loss"]) == ["loss/train_smooth", "validation/loss"]
    assert list(charts["effective rank"]) == [
        "effective_rank/mean",
        "effective_rank/lowest",
    ]
    assert read.Scalars("loss/train_smooth")[0].value == 1.0


def test_the_share_of_the_rank_has_an_axis_from_0_to_1(tmp_path: Path) -> None:
    sink = TensorBoardSink(tmp_path)
    for step in (2, 4):
        sink.scalars("ranks", step, {"effective_rank/share_of_rank": 0.9})
    sink.close()
    read = EventAccumulator(str(tmp_path)).Reload()
    (event,) = read.Tensors(metadata.CONFIG_SUMMARY_TAG)
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    charts = {chart.title: chart.multiline.tag for chart in layout.category[0].chart}
    share, low, high = charts["share of the rank"]
    for tag, expected in ((share, 0.9), (low, 0.0), (high, 1.0)):
        # At each step: TensorBoard leaves out the smallest and largest 5 % of values.
        assert [value.step for value in read.Scalars(tag)] == [2, 4]
        assert [value.value for value in read.Scalars(tag)] == pytest.approx(
            [expected] * 2
        )


def test_the_tab_of_hparams_shows_the_settings_and_results(tmp_path: Path) -> None:
    from tensorboard.plugins.hparams import plugin_data_pb2

    settings = {"lora_rank": 8, "optimizer.name": "adamw", "lora_dropout": 0.5}
    TensorBoardSink(tmp_path, None, "cats", settings).close()
    read = EventAccumulator(str(tmp_path)).Reload()
    found = {
        tag: plugin_data_pb2.HParamsPluginData.FromString(data)
        for tag, data in read.PluginTagToContent("hparams").items()
    }
    session = found["_hparams_/session_start_info"].session_start_info
    assert session.group_name == "cats"
    assert session.hparams["lora_rank"].number_value == 8
    assert session.hparams["optimizer.name"].string_value == "adamw"
    experiment = found["_hparams_/experiment"].experiment
    assert [info.name for info in experiment.hparam_infos] == [*settings]
    tags = [info.name.tag for info in experiment.metric_infos]
    assert tags[:2] == ["validation/loss", "loss/train_smooth"]


def test_hparams_are_settings_that_differ_and_the_most_important_ones() -> None:
    config = parse_config(
        {
            "base_model_name": "/models/sdxl",
            "comment": "second try",
            "optimizer": {"name": "adamw", "weight_decay": 0.5},
            "lora_dropout": 0.1,
            "steps": 7,
        }
    )
    found = hparams_of(config)
    assert found.keys() == {
        "optimizer.name",
        "learning_rate",
        "lora_rank",
        "batch_size",
        "gradient_accumulation_steps",
        "seed",
        "optimizer.weight_decay",
        "lora_dropout",
        "steps",
    }
    assert found["learning_rate"] == config.learning_rate
