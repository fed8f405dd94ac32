"""LOI initialization of the LoRA from the gradient of the first images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..adapters import set_offset
from ..optim.loi import init_loi_
from ..runs.progress import ProgressBar
from .loss.noise import make_noise_source
from .state import TrainingState

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["start_from_gradient"]

# With the defaults of init_loi_; a layer with short sides needs no more.
BACKWARD_PASSES = 12


def start_from_gradient(state: TrainingState, config: TrainConfig) -> None:
    """Initialize the trained adapter with X0 and the frozen adapter with -X0.

    The gradient is computed on the first ``loi_batches`` batches of the run with fixed
    noise and timesteps. The random number generators of the run are not used.

    Raises:
        OptionError: If the gradient is not finite.
    """
    size = config.batch_size
    batches = [state.order.batch(i * size, size) for i in range(config.loi_batches)]
    with ProgressBar("Computing LOI", BACKWARD_PASSES) as bar:

        def backward() -> None:
            noise = make_noise_source(config, state.family, state.processes)
            for visits in batches:
                loss = state.loss(visits, noise) / len(batches)
                state.accelerator.backward(loss)
            state.processes.average_gradients(state.adapters.values())
            bar.advance()

        starts = init_loi_(state.model, backward, offset=True, seed=config.seed)
    set_offset(state.model, starts)
    state.optimizer.zero_grad()
