"""Creation of the training state: images, model, LoRA, optimizer and scheduler."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..adapters import LoraDropout, add_lora, pairs_of, rate_factors
from ..config.optimizer import ForeignOptimizer
from ..config.rules_lora import DROPOUTS
from ..data.color_profiles import profile_remarks
from ..data.folder import Scan, scan_concepts
from ..data.frames import frame_remarks
from ..data.order import DataOrder
from ..data.plan import Plan, plan_of
from ..data.prepare import EncodedSet, encode_set, fill_cache
from ..data.tensor_store import TensorStore
from ..families import Family
from ..families.text_training import checkpoint_layers
from ..files.weights import LoraWeights
from ..methods import decays_apart
from ..optim.alpha import ALPHA_IS_RANK
from ..optim.factor_groups import by_decay
from ..optim.factory import create_optimizer
from ..optim.foreign import create_foreign
from ..optim.pair_optimizer import PairOptimizer
from ..runs.progress import ProgressBar, say
from ..runs.run_folder import RunFolder
from .backend import (
    compile_blocks,
    set_attention,
)
from .checkpointing.rng import seed_all
from .distributed import Processes
from .ema import MovingAverage
from .lora_start import start_from_loras
from .loss.denoising_loss import make_objective
from .loss.noise import make_noise_source
from .norm_limit import NormLimit
from .preflight import ModelLayers, Preflight
from .samples import Sampler
from .schedule import make_schedule
from .sharding import shard_base
from .state import TrainingState
from .validation import Validation

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = [
    "add_text_loras",
    "build_state",
    "make_optimizer",
]


def build_state(
    config: TrainConfig,
    inputs: Preflight,
    folder: RunFolder,
    given: LoraWeights | None = None,
) -> TrainingState:
    """Encode the images, then load the denoiser and add the LoRA.

    Args:
        config: the whole configuration.
        inputs: result of ``run_preflight``.
        folder: folder of the run.
        given: LoRA to start from (see :mod:`.lora_start`).

    Raises:
        InputError: If an image is unreadable, the disk is full, or another input is
            invalid.
    """
    # First, before any library draws from a global generator. Noise, the order of
    # images and the start of the LoRA have separate generators.
    seed_all(config.seed)
    opened = inputs.model
    family = opened.family
    store = TensorStore(config.cache_dir or config.output_dir / ".cache")
    # Captions are only cached for frozen encoders; trained ones encode at every step.
    frozen_text = bool(family.text_models.keys() - opened.text_targets.keys())
    processes = inputs.processes
    images, validation = _encode_sets(config, inputs, store, frozen_text)
    sampler = _make_sampler(config, inputs, store, folder, encodes_text=frozen_text)
    model = _make_denoiser(config, inputs)
    whole = add_text_loras(config, family, opened.text_targets, model)
    if given is not None:
        start_from_loras(config, family, whole, given)
    optimizer = make_optimizer(config, family, whole)
    # Not the text encoders, which run within autocast (TrainingState.loss).
    placement = [not processes.in_step, True]
    prepared = inputs.accelerator.prepare(model, optimizer, device_placement=placement)
    state = TrainingState(
        family=family,
        accelerator=inputs.accelerator,
        model=whole if opened.text_targets else prepared[0],
        denoiser=prepared[0],
        optimizer=prepared[1],
        scheduler=_make_scheduler(config, optimizer),
        pairs=pairs_of(whole),
        order=DataOrder(images.rates, config.seed, images.sizes),
        noise=make_noise_source(config, family, processes),
        objective=make_objective(config, family.prediction_type),
        images=images,
        validation=_make_validation(config, family, validation, processes),
        sampler=sampler,
        text_stops=config.text_encoder_stops,
        processes=processes,
    )
    # Devices of different kinds may round the initialization differently.
    processes.copy_from_main([*state.adapters.values()])
    _add_options(state, config, whole, optimizer)
    if config.compile:
        compile_blocks(state.denoiser)
    return state


def _make_sampler(
    config: TrainConfig,
    inputs: Preflight,
    store: TensorStore,
    folder: RunFolder,
    *,
    encodes_text: bool,
) -> Sampler:
    return Sampler(
        config.resolved_samples,
        inputs.model.family,
        store,
        config.resolution,
        folder.samples,
        encodes_text=encodes_text,
        weighted=config.sample_prompt_weights,
        model_name=Path(config.base_model_name or "").name,
        processes=inputs.processes,
    )


def _make_denoiser(config: TrainConfig, inputs: Preflight) -> nn.Module:
    """Load the denoiser and add the LoRA. Divide its weights if the processes do so."""
    family, processes = inputs.model.family, inputs.processes
    # The denoiser needs the memory of the encoders.
    family.release_encoders()
    say(f"Loading {config.base_model_name}.")
    if not processes.in_step:
        return _load_with_lora(config, inputs.model)
    family.divides_denoiser = True

    def make() -> nn.Module:
        model = _load_with_lora(config, inputs.model)
        shard_base(model, inputs.accelerator.device)
        return model

    # The main memory of a machine contains one whole model at a time.
    return processes.in_turn(make)


def _load_with_lora(config: TrainConfig, opened: ModelLayers) -> nn.Module:
    family = opened.family
    model = family.denoiser
    set_attention(model, config.attention_mechanism)
    family.set_gradient_checkpointing(config.gradient_checkpointing)
    add_lora(
        model,
        rank=config.lora_rank,
        alpha=config.resolved_alpha,
        targets=opened.targets,
        method=config.optimizer.method,
        seed=config.seed,
        init=config.lora_init,
        use_dora=config.use_dora,
        ranks=opened.ranks,
    )
    return model.train()


def _add_options(
    state: TrainingState,
    config: TrainConfig,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    state.average = _make_average(config, state)
    state.norm_limit = _make_norm_limit(config, model, state, optimizer)
    state.dropout = _make_dropout(config, model, state, optimizer)


def _make_average(config: TrainConfig, state: TrainingState) -> MovingAverage | None:
    if config.ema == "off":
        return None
    return MovingAverage(
        state.model,
        state.pairs if state.constrained else (),
        decay=config.ema_decay,
        every=config.ema_update_step_interval,
        device=state.family.device if config.ema == "gpu" else torch.device("cpu"),
    )


def _make_norm_limit(
    config: TrainConfig,
    model: nn.Module,
    state: TrainingState,
    optimizer: torch.optim.Optimizer,
) -> NormLimit | None:
    limit = config.scale_weight_norms
    return NormLimit(limit, model, state.pairs, optimizer) if limit else None


def _make_dropout(
    config: TrainConfig,
    model: nn.Module,
    state: TrainingState,
    optimizer: torch.optim.Optimizer,
) -> LoraDropout | None:
    if not any(getattr(config, key) for key in DROPOUTS):
        return None
    if config.module_dropout and isinstance(optimizer, PairOptimizer):
        optimizer.expect_missing_gradients()
    return LoraDropout(
        model,
        state.pairs,
        seed=config.seed,
        entries=config.lora_dropout,
        ranks=config.rank_dropout,
        modules=config.module_dropout,
        share=state.processes.share,
    )


def _encode_sets(
    config: TrainConfig, inputs: Preflight, store: TensorStore, frozen_text: bool
) -> tuple[EncodedSet, EncodedSet]:
    """Encode the images for training and for validation."""
    plan = plan_of(config, training=True, encodes_text=frozen_text)
    images = _encode("Encoding images", inputs.train, inputs, store, plan)
    plan = plan_of(config, training=False, encodes_text=frozen_text)
    # Validation images that are never used are not encoded.
    scan = inputs.validation if config.validate_every else scan_concepts(())
    label = "Encoding validation images"
    return images, _encode(label, scan, inputs, store, plan)


def _encode(
    label: str, scan: Scan, inputs: Preflight, store: TensorStore, plan: Plan
) -> EncodedSet:
    family, processes = inputs.model.family, inputs.processes
    if not processes.is_alone:
        fill_cache(scan, family, store, plan, processes.share)
        processes.wait()
    with ProgressBar(label, len(scan.images)) as bar:
        encoded = encode_set(scan, family, store, plan, bar.advance)
    if encoded.unreadable:
        say(
            f"{len(encoded.unreadable)} of {len(scan.images)} images cannot be read "
            f"and are skipped: {'; '.join(encoded.unreadable)}."
        )
    files = [image.path for image in encoded.distinct_images]
    for remark in (*frame_remarks(files), *profile_remarks(files)):
        say(remark)
    return encoded


def _make_validation(
    config: TrainConfig,
    family: Family,
    validation_set: EncodedSet,
    processes: Processes,
) -> Validation | None:
    if not len(validation_set):
        return None
    return Validation(
        validation_set,
        family,
        config.validation_timesteps_per_picture,
        config.batch_size // processes.count,
        processes,
    )


def _make_scheduler(
    config: TrainConfig, optimizer: torch.optim.Optimizer
) -> torch.optim.lr_scheduler.LambdaLR:
    schedule = make_schedule(
        shape=config.learning_rate_scheduler,
        steps=config.steps,
        warmup=config.resolved_warmup_steps,
        floor=config.learning_rate_min_factor,
        cycles=config.learning_rate_cycles,
        power=config.learning_rate_power,
    )
    # Not prepared by accelerate, whose wrapper leaves a step out where the optimizer
    # skips one (overflow in float16). The schedule would then lag behind the number of
    # steps, from which a resume sets it.
    return torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)


def add_text_loras(
    config: TrainConfig,
    family: Family,
    targets: Mapping[str, list[str]],
    denoiser: nn.Module,
) -> nn.Module:
    """Add LoRAs to text encoders, which remain in evaluation mode (no dropout).

    Returns:
        The denoiser if only the denoiser is trained, otherwise all trained components
        by name.
    """
    if not targets:
        return denoiser
    whole = nn.ModuleDict({family.component: denoiser})
    # Each part has its own seed: equal layers must not start from equal factors.
    for number, (part, layers) in enumerate(targets.items(), start=1):
        encoder = family.text_encoder(part)
        add_lora(
            encoder,
            rank=config.lora_rank,
            alpha=config.resolved_alpha,
            targets=layers,
            method=config.optimizer.method,
            seed=config.seed + number,
            init=config.lora_init,
        )
        if config.gradient_checkpointing:
            checkpoint_layers(encoder)
        whole[part] = encoder
    return whole


def _trained(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((n, p) for n, p in module.named_parameters() if p.requires_grad)


def _by_factor(
    module: nn.Module, prefix: str, patterns: Mapping[str, float]
) -> dict[float, list[tuple[str, nn.Parameter]]]:
    """Return the trained parameters by the factor of their learning rate."""
    trained = list(_trained(module))
    layers = {name: name.partition(".lora_")[0] for name, _ in trained}
    factors = rate_factors([*dict.fromkeys(layers.values())], patterns)
    found: dict[float, list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in trained:
        entry = (f"{prefix}{name}", parameter)
        found.setdefault(factors[layers[name]], []).append(entry)
    return found


def make_optimizer(
    config: TrainConfig, family: Family, model: nn.Module
) -> torch.optim.Optimizer:
    """Create the optimizer, with a parameter group for each trained component.

    Args:
        config: configuration of the run.
        family: family of the base model.
        model: result of ``add_text_loras``.

    Raises:
        ConfigError: If a custom optimizer rejects its options.
    """
    rate = config.learning_rate
    rates = config.text_encoder_rates
    chosen = config.optimizer
    # Groups do not expose alpha; for methods that control it, the configuration checks
    # it.
    is_rank = config.resolved_alpha == config.lora_rank
    seen_to = {} if isinstance(chosen, ForeignOptimizer) else {ALPHA_IS_RANK: is_rank}
    parts = {family.component: model} if config.learning_rate_pattern else {}
    if rates:
        names = (family.component, *rates)
        parts = {part: model.get_submodule(part) for part in names}
    groups: list[dict[str, Any]] = [
        {"params": params, "lr": rates.get(part, rate) * factor, **seen_to}
        for part, module in parts.items()
        for factor, params in _by_factor(
            module,
            f"{part}." if rates else "",
            config.learning_rate_pattern if part == family.component else {},
        ).items()
    ]
    if not isinstance(chosen, ForeignOptimizer):
        # A model rather than its parameters where possible: names identify pairs, and
        # alpha is visible.
        source = groups or model
        return create_optimizer(chosen.name, source, lr=rate, **chosen.arguments())
    if decays_apart(chosen.arguments()):
        whole = [{"params": list(_trained(model))}]
        groups = by_decay(groups or whole, chosen.arguments(), pairs_of(model))
    for group in groups:
        # Optimizers of other packages do not accept names.
        group["params"] = [parameter for _, parameter in group["params"]]
    parameters = [parameter for _, parameter in _trained(model)]
    return create_foreign(
        chosen.load(),
        chosen.source,
        groups or parameters,
        lr=rate,
        options=chosen.keywords(),
    )
