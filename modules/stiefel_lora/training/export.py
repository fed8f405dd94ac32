"""Writing of the LoRA files of a run."""

from __future__ import annotations

import collections
import datetime
import itertools
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .. import __version__
from ..adapters import alpha_of, base_lengths, magnitude_of, row_lengths
from ..data.balance import rates_of
from ..data.buckets import Size
from ..data.caption_variants import plain_caption
from ..data.folder import CaptionedImage
from ..data.prepare import EncodedSet
from ..families.catalogue import record_of
from ..files import (
    LearnedFolder,
    LoraFactors,
    LoraWeights,
    canonical_name,
    compress,
    image_metadata,
    row_scale,
    save_kohya,
    save_peft,
    training_metadata,
    with_one_alpha,
)
from ..optim.pairs import Pair
from ..runs.progress import say
from ..runs.run_folder import RunFolder
from .backend import MIXED_PRECISION
from .kept_files import WITHOUT_AVERAGE, KeptFiles, outdated_files
from .logging.sinks import MetricSink
from .state import TrainingState

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["BEST", "LoraWriter", "lora_weights", "run_notes", "write_lora_files"]

BEST = "-best"


class LoraWriter:
    """Write the LoRA files of a run to its folder.

    Args:
        config: configuration with formats, precision and metadata.
        state: training state with the LoRA.
        folder: folder of the run.
        sink: sink to which an event is written for every file.
        started: start time of the run.
    """

    def __init__(
        self,
        config: TrainConfig,
        state: TrainingState,
        folder: RunFolder,
        sink: MetricSink,
        started: datetime.datetime,
    ) -> None:
        self._config = config
        self._state = state
        self._folder = folder
        self._sink = sink
        self._started = started
        self._kept = KeptFiles(folder, sink, config.keep_saved)
        self._outdated: set[Path] = set()

    @property
    def best_stem(self) -> str:
        """Return the file name, without suffix, of the best LoRA."""
        return f"{self._folder.root.name}{BEST}"

    def write_at_interval(self, step: int) -> None:
        """Write the LoRA as a file of ``save_every``, and remove the oldest ones.

        Raises:
            OutputError: If a file cannot be written.

        Only the main process writes files.
        """
        if not self._state.processes.is_main:
            return
        paths = self._write_all(step, f"-step-{step}", {})
        names = [path.name for path in paths]
        self._sink.event("lora", step, {"files": names, "interval": True})
        self._kept.add(step, paths)

    def write(
        self, step: int, mark: str = "", extra: Mapping[str, Any] | None = None
    ) -> list[Path]:
        """Write the LoRA in every format. With EMA, the averaged weights are written.

        Args:
            step: number of completed optimizer steps.
            mark: suffix of the file names, such as ``-step-100``.
            extra: additional values for the metadata.

        Raises:
            OutputError: If a file cannot be written.

        Only the main process writes files.
        """
        if not self._state.processes.is_main:
            return []
        paths = self._write_all(step, mark, extra or {})
        self._kept.leave_out(paths)
        self._sink.event("lora", step, {"files": [path.name for path in paths]})
        return paths

    def _write_all(self, step: int, mark: str, extra: Mapping[str, Any]) -> list[Path]:
        stem = f"{self._folder.root.name}{mark}"
        # Outside of this block the model holds the trained weights, with which training
        # continues.
        with self._state.averaged():
            paths = self._write(stem, step, extra)
        if self._state.average is not None and self._config.save_without_ema:
            with self._state.evaluated():
                paths += self._write(stem + WITHOUT_AVERAGE, step, {})
        old = outdated_files(self._folder.lora, stem, paths)
        names = [path.name for path in old if path not in self._outdated]
        self._outdated.update(old)
        if names:
            say(
                f"{', '.join(names)} in {self._folder.lora} "
                f"{'is' if len(names) == 1 else 'are'} of an earlier step: the current "
                "output settings do not write such files."
            )
        return paths

    def _write(self, stem: str, step: int, extra: Mapping[str, Any]) -> list[Path]:
        state = self._state
        return write_lora_files(
            self._folder.lora,
            stem,
            self._weights(),
            self._config,
            step=step,
            prediction_type=state.family.prediction_type,
            notes={
                **run_notes(self._config, state.images),
                "ss_batch_size_per_device": self._config.batch_size
                // state.processes.count,
            },
            started=self._started,
            extra=dict(extra),
            base_lengths=self._base_lengths,
        )

    def _base_lengths(self, name: str) -> Tensor:
        """Return the row norms of a base weight, by the name of the layer in files."""
        state = self._state
        path = name if state.component is None else name.partition(".")[2]
        return base_lengths(state.model, path).cpu()

    def _weights(self) -> LoraWeights:
        """Return the effective updates, truncated to the file rank with LOI."""
        state, config = self._state, self._config
        model, component = state.model, state.component
        # Only LOI has a second adapter to subtract, which doubles the rank.
        if config.lora_init != "loi":
            return lora_weights(model, component, state.pairs)
        weights = lora_weights(model, component, state.effective_update().pairs)
        weights, lost = compress(weights, config.resolved_file_rank)
        if config.resolved_file_rank < 2 * config.lora_rank:
            say(
                f"The file has rank {config.resolved_file_rank}. The truncation "
                f"error of the update is {lost:.2%} (relative Frobenius norm)."
            )
        return weights


# Weights and files --------------------------------------------------------------------


def lora_weights(
    model: nn.Module, component: str | None, pairs: Sequence[Pair]
) -> LoraWeights:
    """Collect the factors of a LoRA by the layer names used in files, on the CPU.

    If ``component`` is None, the names of the pairs include their component. Alpha is
    read from each layer.
    """
    weights = {}
    for pair in pairs:
        name = pair.name if component is None else f"{component}.{pair.name}"
        own, _, path = name.partition(".")
        weights[canonical_name(own, path)] = _factors(model, pair)
    return weights


def _factors(model: nn.Module, pair: Pair) -> LoraFactors:
    magnitude = magnitude_of(model, pair)
    scale = None
    if magnitude is not None:
        rows = row_lengths(model, pair)
        scale = row_scale(rows.magnitude, rows.base, rows.lengths).cpu()
    return LoraFactors(
        up=pair.up.detach().cpu(),
        down=pair.down.detach().cpu(),
        alpha=alpha_of(model, pair),
        magnitude=None if magnitude is None else magnitude.detach().cpu(),
        dora_scale=scale,
    )


def _usual_scale(weights: LoraWeights) -> tuple[int, float]:
    """Return the most frequent rank and alpha of the layers."""
    scales = collections.Counter((w.rank, w.alpha) for w in weights.values())
    return scales.most_common(1)[0][0]


def write_lora_files(
    folder: Path,
    stem: str,
    weights: LoraWeights,
    config: TrainConfig,
    *,
    step: int,
    notes: Mapping[str, object],
    started: datetime.datetime,
    prediction_type: str,
    extra: dict[str, Any],
    base_lengths: Callable[[str], Tensor],
) -> list[Path]:
    """Write a LoRA in every format of the configuration, and verify the files.

    Args:
        folder: folder of the files.
        stem: file name without suffix.
        weights: factors of the LoRA.
        config: configuration with formats, precision and metadata.
        step: number of completed optimizer steps.
        notes: metadata entries by name (see :func:`run_notes`).
        started: start time of the run.
        prediction_type: prediction type of the base model, by its name in diffusers.
        extra: additional metadata of this package.
        base_lengths: row norms of base weights, by layer names in files.

    Raises:
        OutputError: If a file cannot be written.
    """
    rank, alpha = _usual_scale(weights)
    metadata = training_metadata(
        title=stem,
        base_model_name=str(config.base_model_name),
        rank=rank,
        alpha=alpha,
        optimizer=config.optimizer.name,
        options=config.optimizer.in_effect(),
        learning_rate=config.learning_rate,
        steps=step,
        resolution=config.resolution,
        date=datetime.datetime.now(datetime.timezone.utc),
        version=__version__,
        family=config.model_type,
        prediction_type=prediction_type,
        more=notes,
        started=started,
        extra=extra,
    )
    facts = record_of(config.model_type).lora_files
    # Only for this format: PEFT files have no alpha, so A is scaled there anyway.
    kohya = with_one_alpha(weights) if facts.one_alpha else weights
    paths = []
    dtypes = (config.output_dtype, *config.extra_output_dtypes)
    for kind, name in itertools.product(config.output_formats, dtypes):
        # The most widely supported format and the main data type get the plain name.
        form = "" if kind == "kohya" else "_peft"
        ending = "" if name == config.output_dtype else f"_{name}"
        path = folder / f"{stem}{form}{ending}.safetensors"
        dtype = getattr(torch, name)
        if kind == "kohya":
            save_kohya(
                path,
                kohya,
                family=config.model_type,
                dtype=dtype,
                metadata=metadata,
                base_lengths=base_lengths,
            )
        else:
            save_peft(path, weights, dtype=dtype, metadata=metadata)
        paths.append(path)
    return paths


# Metadata -----------------------------------------------------------------------------


def run_notes(config: TrainConfig, images: EncodedSet) -> dict[str, object]:
    """Return metadata entries of a run by their names in sd-scripts."""
    return {**_settings(config), **_images(images)}


def _settings(config: TrainConfig) -> dict[str, object]:
    """Return settings as metadata entries with the keys of sd-scripts."""
    rates = list(config.text_encoder_rates.values())
    asked = {
        "ss_noise_offset": config.offset_noise_weight,
        "ss_noise_offset_random_strength": (
            config.offset_noise_weight and config.offset_noise_random_strength
        ),
        "ss_adaptive_noise_scale": (
            config.offset_noise_weight and config.adaptive_noise_scale
        ),
        "ss_multires_noise_iterations": config.multires_noise_iterations,
        "ss_multires_noise_discount": (
            config.multires_noise_iterations and config.multires_noise_discount
        ),
        "ss_ip_noise_gamma": config.ip_noise_gamma,
        "ss_ip_noise_gamma_random_strength": (
            config.ip_noise_gamma and config.ip_noise_gamma_random_strength
        ),
        "ss_min_snr_gamma": (
            config.loss_weight_fn == "min_snr_gamma" and config.loss_weight_strength
        ),
        "ss_zero_terminal_snr": config.zero_terminal_snr,
        "ss_scale_weight_norms": config.scale_weight_norms,
        "ss_clip_skip": _clip_skip(config),
        "modelspec.encoder_layer": _clip_skip(config),
        "ss_max_token_length": config.max_token_length != 75
        and config.max_token_length,
        "ss_text_encoder_lr": rates[0] if len(rates) == 1 else rates,
        "modelspec.trigger_phrase": config.trigger_word,
    }
    return {
        "ss_seed": config.seed,
        "ss_max_train_steps": config.steps,
        "ss_batch_size_per_device": config.batch_size,
        "ss_total_batch_size": config.batch_size * config.gradient_accumulation_steps,
        "ss_gradient_accumulation_steps": config.gradient_accumulation_steps,
        "ss_gradient_checkpointing": str(config.gradient_checkpointing),
        "ss_mixed_precision": MIXED_PRECISION[config.train_dtype],
        "ss_lr_scheduler": config.learning_rate_scheduler,
        "ss_lr_warmup_steps": config.resolved_warmup_steps,
        "ss_max_grad_norm": config.clip_grad_norm,
        "ss_enable_bucket": str(config.aspect_ratio_bucketing),
        "ss_bucket_no_upscale": str(not config.allow_upscaling),
        **{key: value for key, value in asked.items() if value},
    }


def _clip_skip(config: TrainConfig) -> int | None:
    """Return the layer of the text encoder, counted from the end, if any is skipped."""
    skip = config.text_encoder_layer_skip
    unread = config.family.unread_text_layers.get("text_encoder", 0)
    return skip + unread + 1 if skip else None


def _images(images: EncodedSet) -> dict[str, object]:
    buckets: dict[Size, float] = collections.defaultdict(float)
    for rate, size in zip(images.rates, images.sizes, strict=True):
        buckets[size] += float(rate)
    concepts: dict[int, list[tuple[CaptionedImage, Fraction]]] = {}
    single = images.distinct_images
    for image, rate in zip(single, rates_of(single), strict=True):
        concepts.setdefault(id(image.concept), []).append((image, rate))
    folders = [_folder(members) for members in concepts.values()]
    return image_metadata(folders, buckets)


def _folder(members: list[tuple[CaptionedImage, Fraction]]) -> LearnedFolder:
    image, rate = members[0]
    return LearnedFolder(
        name=image.concept.path.name,
        captions=[plain_caption(image) for image, _ in members],
        repeats=float(rate),
        is_reg=image.concept.is_reg,
        tag_delimiter=image.concept.tag_delimiter,
    )
