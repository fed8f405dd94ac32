"""Device, attention, compilation and memory of a run."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from .._exceptions import ConfigError, TrainingError, reason_of
from .._install import install_command, pip_command
from ..config.packages import ATTENTION_PACKAGES
from ..config.violation import Violation

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = [
    "MIXED_PRECISION",
    "advise_on_memory",
    "check_attention",
    "check_compiler",
    "check_hardware",
    "check_machine",
    "check_quantization",
    "compile_blocks",
    "make_accelerator",
    "memory_problem",
    "savings",
    "set_attention",
]

# Estimated memory in bytes above which a model is too large for a CPU.
_LARGE = 4_000_000_000

MIXED_PRECISION = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}
"""Values of ``train_dtype`` by their names in accelerate and sd-scripts metadata."""


# Device and precision -----------------------------------------------------------------


def check_hardware(config: TrainConfig) -> None:
    """Check that this machine supports the device and precision.

    Raises:
        ConfigError: If the device is not available, or float16 is used without an
            NVIDIA GPU.
    """
    kind = config.device.partition(":")[0]
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "xpu": torch.xpu.is_available(),
    }
    if not present.get(kind, True):
        raise ConfigError(
            f"device={config.device!r}: {kind} is not available on this machine or "
            'in this build of torch. Use "auto" or "cpu".',
            key="device",
        )
    index = config.device.partition(":")[2]
    if index and kind == "cuda" and int(index) >= torch.cuda.device_count():
        raise ConfigError(
            f"device={config.device!r}: this machine has "
            f"{torch.cuda.device_count()} CUDA devices, and the first one is cuda:0.",
            key="device",
        )
    on_cuda = kind == "cuda" or (kind == "auto" and present["cuda"])
    if config.train_dtype == "float16" and not on_cuda:
        raise ConfigError(
            'train_dtype="float16" requires an NVIDIA GPU, because gradients are '
            'scaled. Use "bfloat16" or "float32".',
            key="train_dtype",
        )


def check_machine(config: TrainConfig) -> None:
    """Run all checks of hardware and packages, without a model and images.

    Raises:
        ConfigError: If this machine does not support a setting.
    """
    check_hardware(config)
    check_quantization(config)
    device = device_of(config)
    check_attention(config, device)
    if config.compile:
        check_compiler(device)


def device_of(config: TrainConfig) -> torch.device:
    """Return the device of a run. With auto, this is a GPU if there is one."""
    if config.device != "auto":
        return torch.device(config.device)
    for kind, present in (
        ("cuda", torch.cuda.is_available()),
        ("mps", torch.backends.mps.is_available()),
        ("xpu", torch.xpu.is_available()),
    ):
        if present:
            return torch.device(kind)
    return torch.device("cpu")


def memory_problem(config: TrainConfig, needed: int) -> Violation | None:
    """Return a warning if a run needs more memory than the GPU has.

    Args:
        config: configuration of the run.
        needed: estimated peak of the GPU memory in bytes.
    """
    device = device_of(config)
    if device.type == "cpu":
        if config.device != "auto" or needed < _LARGE:
            return None
        return Violation(
            "device",
            "no GPU was found. Training this model on the CPU takes days",
            "Run stiefel-lora doctor to check the installation of torch",
        )
    if device.type != "cuda":
        return None
    total = torch.cuda.get_device_properties(device).total_memory
    if needed <= total:
        return None
    best = savings(config)[:3]
    key = best[0].partition("=")[0] if "=" in best[0] else "batch_size"
    return Violation(
        key,
        f"the run needs about {needed / 1e9:.1f} GB of GPU memory, but the GPU has "
        f"{total / 1e9:.1f} GB",
        f"These changes save the most memory: {', '.join(best)}",
    )


def check_quantization(config: TrainConfig) -> None:
    """Check that bitsandbytes is installed if weights are quantized.

    Raises:
        ConfigError: If the package is not installed.
    """
    quantized = config.weight_dtype != config.plain_weight_dtype
    if quantized and importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            f"weight_dtype={config.weight_dtype!r} requires the package bitsandbytes, "
            f'which is not installed. Use "bfloat16", or install it with: '
            f"{install_command('quant')}",
            key="weight_dtype",
        )


# Variables of torchrun and MPI from which accelerate derives a number of processes.
_PROCESS_VARIABLES = (
    "LOCAL_RANK",
    "WORLD_SIZE",
    "PMI_SIZE",
    "OMPI_COMM_WORLD_SIZE",
    "MV2_COMM_WORLD_SIZE",
)


def make_accelerator(config: TrainConfig, local: int | None = None) -> Accelerator:
    """Create an accelerator of accelerate for the device of this process.

    Args:
        config: configuration of the run.
        local: number of the GPU with several processes. Gradients are averaged by
            :mod:`.distributed`, so accelerate only sees a single process.
    """
    # accelerate keeps the precision of the first run in a process for all later ones.
    AcceleratorState._reset_state(reset_partial_state=True)
    device = config.device
    if local is not None and device_of(config).type == "cuda":
        device = f"cuda:{local}"
    # accelerate takes a certain GPU only from the environment, which is restored, since
    # other runs of this process may use another one.
    names = ("ACCELERATE_TORCH_DEVICE", *_PROCESS_VARIABLES)
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    if device not in ("auto", "cpu"):
        os.environ["ACCELERATE_TORCH_DEVICE"] = device
    elif "ACCELERATE_TORCH_DEVICE" in before:
        os.environ["ACCELERATE_TORCH_DEVICE"] = before["ACCELERATE_TORCH_DEVICE"]
    try:
        return Accelerator(
            cpu=device == "cpu",
            mixed_precision=MIXED_PRECISION[config.train_dtype],
            gradient_accumulation_steps=config.gradient_accumulation_steps,
        )
    finally:
        os.environ.pop("ACCELERATE_TORCH_DEVICE", None)
        os.environ.update(before)


# Attention ----------------------------------------------------------------------------


def check_attention(config: TrainConfig, device: torch.device) -> None:
    """Check that this machine supports the attention mechanism.

    Raises:
        ConfigError: If the package is not installed, or there is no NVIDIA GPU.
    """
    mechanism = config.attention_mechanism
    if mechanism == "sdp":
        return
    package = ATTENTION_PACKAGES[mechanism]
    if importlib.util.find_spec(package) is None:
        command = (
            pip_command("flash-attn")
            if mechanism == "flash"
            else install_command("xformers")
        )
        raise ConfigError(
            f"attention_mechanism={mechanism!r} requires the package {package}, "
            f'which is not installed. Use "sdp", or install it with: {command}',
            key="attention_mechanism",
        )
    if device.type != "cuda":
        raise ConfigError(
            f"attention_mechanism={mechanism!r} requires an NVIDIA GPU, but the "
            f'device is {device.type}. Use "sdp".',
            key="attention_mechanism",
        )


def set_attention(model: nn.Module, mechanism: str) -> None:
    """Set the attention implementation of a diffusers model.

    Raises:
        ConfigError: If diffusers does not support it on this machine. The message
            contains the reason.
    """
    if mechanism == "sdp":
        return
    chosen: Any = model
    try:
        if _dispatches(model):
            chosen.set_attention_backend(mechanism)
        else:
            chosen.enable_xformers_memory_efficient_attention()
    except (ImportError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"attention_mechanism={mechanism!r} is not supported on this machine "
            f'({str(error).strip()}). Use "sdp".'
        ) from error


def _dispatches(model: nn.Module) -> bool:
    """Return whether the model uses the attention dispatcher of diffusers."""
    processors = getattr(model, "attn_processors", {}).values()
    return any(hasattr(processor, "_attention_backend") for processor in processors)


# Compilation --------------------------------------------------------------------------


def check_compiler(device: torch.device) -> None:
    """Check that a compiler is installed.

    Raises:
        ConfigError: If there is no C++ compiler for a CPU, or no Triton for a GPU.
    """
    if device.type == "cpu":
        missing = None if _has_cpp() else "a C++ compiler (g++, clang or MSVC)"
    else:
        from torch.utils._triton import has_triton

        missing = None if has_triton() else "the package triton"
    if missing:
        raise ConfigError(
            f"compile=true requires {missing}, which is not installed. Install it, "
            "or disable compile.",
            key="compile",
        )


def compile_blocks(model: nn.Module) -> None:
    """Compile the repeated blocks of a model with torch.compile, in place.

    Blocks of the same class are compiled once, at their first use. Parameter names do
    not change.
    """
    compiled: Any = model
    compiled.compile_repeated_blocks()


def _has_cpp() -> bool:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except (InvalidCxxCompiler, RuntimeError):
        return False
    return True


# Out of memory ------------------------------------------------------------------------

# Out-of-memory messages of torch on a CPU, where it has no exception class for them.
_WORDS = ("can't allocate memory", "not enough memory")


@contextlib.contextmanager
def advise_on_memory(
    config: TrainConfig, last_good: Callable[[], Path | None]
) -> Iterator[None]:
    """Convert an out-of-memory error to an error with advice on settings.

    Args:
        config: configuration of the run.
        last_good: function that returns the checkpoint to resume from, or None.

    Raises:
        TrainingError: If an out-of-memory error is raised. The message contains the
            settings that save the most memory, and the checkpoint to resume from.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        kept = last_good()
        last = f"Resume from {kept}" if kept else "No checkpoint has been saved yet"
        raise TrainingError(
            f"Out of memory ({reason_of(error)}). These changes save the most "
            f"memory: {', '.join(savings(config)[:3])}. {last}."
        ) from error


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(word in str(error) for word in _WORDS)


def savings(config: TrainConfig) -> list[str]:
    """List changes of settings that reduce memory, sorted by their effect.

    The order is that of SDXL and FLUX: activations, base model, and size of the LoRA.
    Changes that are already in effect are not listed.
    """
    found = (saving(config) for saving in _SAVINGS)
    return [text for text in found if text]


def _checkpointing(config: TrainConfig) -> str | None:
    return None if config.gradient_checkpointing else "gradient_checkpointing=true"


def _batch(config: TrainConfig) -> str | None:
    if config.batch_size == 1:
        return None
    images = config.batch_size * config.gradient_accumulation_steps
    return f"batch_size=1 with gradient_accumulation_steps={images}"


def _weights(config: TrainConfig) -> str | None:
    lower = {"float32": "bfloat16", "bfloat16": "nfloat4", "float16": "nfloat4"}
    lower["int8"] = "nfloat4"
    found = lower.get(config.weight_dtype)
    return f"weight_dtype={found}" if found else None


def _computation(config: TrainConfig) -> str | None:
    if config.train_dtype != "float32" or config.device == "cpu":
        return None
    return "train_dtype=bfloat16"


def _resolution(config: TrainConfig) -> str | None:
    lower = config.resolution * 3 // 4 // 64 * 64
    return f"resolution={lower}" if lower >= 256 else None


def _moments(config: TrainConfig) -> str | None:
    return "optimizer.name=adamw_8bit" if config.optimizer.name == "adamw" else None


def _rank(config: TrainConfig) -> str | None:
    return f"lora_rank={config.lora_rank // 2}" if config.lora_rank >= 8 else None


def _layers(config: TrainConfig) -> str | None:
    if config.layer_filter or config.layer_filter_preset == "attn-only":
        return None
    return "layer_filter_preset=attn-only"


def _other_programs(config: TrainConfig) -> str | None:
    return "closing other programs that use the same memory"


_SAVINGS: tuple[Callable[[TrainConfig], str | None], ...] = (
    _checkpointing,
    _batch,
    _weights,
    _computation,
    _resolution,
    _moments,
    _layers,
    _rank,
    _other_programs,
)
