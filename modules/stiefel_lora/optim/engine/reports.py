"""Log messages of an optimizer about trained and untrained parameters.

Tensors on a GPU are only read when the optimizer is created, so no step synchronizes.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from ...methods import Method, rate_note
from ..groups import NOTED_LR, is_magnitude
from ..pairs import Pair
from ..rule import Rule

__all__ = [
    "FirstSteps",
    "log_frozen",
    "log_joint",
    "log_pairs",
    "log_replaced",
    "log_restarted",
]

log = logging.getLogger("stiefel_lora")

Groups = Sequence[Mapping[str, Any]]
Rest = Sequence[tuple[str, Tensor]]

_WATCHED = 3
_SHOWN = 3


def log_pairs(
    title: str,
    pairs: Sequence[Pair],
    rest: Rest,
    reasons: Mapping[int, str],
    groups: Groups,
    rule: Rule,
) -> None:
    """Log the number of pairs, and the parameters that AdamW trains, with the reasons.

    Args:
        title: name of the optimizer.
        pairs: pairs that the method trains.
        rest: names and tensors of all other parameters.
        reasons: reason why a factor is not part of a pair, by id.
        groups: parameter groups with the learning rates.
        rule: update rule of the method.
    """
    log.info("%s trains %d LoRA pairs.", title, len(pairs))
    rest = [(name, p) for name, p in rest if p.requires_grad]
    plain = [(name, p) for name, p in rest if not is_magnitude(name, p)]
    if len(plain) < len(rest):
        count = len(rest) - len(plain)
        log.info("%d DoRA magnitudes use AdamW without weight decay.", count)
    rates = {id(p): _rate(group, rule) for group in groups for p in group["params"]}
    kinds: dict[tuple[str, str], list[str]] = {}
    for name, tensor in plain:
        why = reasons.get(id(tensor), "not part of a LoRA pair")
        kinds.setdefault((why, rates[id(tensor)]), []).append(name)
    total = len(plain) + 2 * len(pairs)
    for (why, rate), names in kinds.items():
        log.warning(
            "%s: %d of %d parameters use AdamW at a learning rate of %s (%s): %s",
            *(title, len(names), total, rate, why, _shown(names)),
        )


def log_joint(
    title: str,
    pairs: Sequence[Pair],
    owners: Mapping[int, Mapping[str, Any]],
    rule: Rule,
) -> None:
    """Log pairs that are updated jointly although A and B have different options.

    Args:
        title: name of the optimizer.
        pairs: pairs that the method trains.
        owners: parameter groups by the id of a factor.
        rule: update rule of the method.
    """
    counts: Counter[str] = Counter()
    mean: set[str] = set()
    for pair in pairs:
        up, down = owners[id(pair.up)], owners[id(pair.down)]
        if up is down:
            continue
        choices = rule.choices(up)
        values = [{"lr": group["lr"], **rule.numbers(group)} for group in (up, down)]
        differing: set[str] = set()
        for name in rule.joint_numbers(choices):
            one, other = (value[name] for value in values)
            # A rate on an accelerator is not read, which would synchronize.
            known = not (isinstance(one, Tensor) or isinstance(other, Tensor))
            # One message for an option whose numbers are apart for B and A.
            option = name.removesuffix("_up").removesuffix("_down")
            if known and one != other:
                differing.add(option)
        counts.update(differing)
        if counts["lr"] and rule.solver(choices) is not None:
            mean.add("lr")
    for name, count in counts.items():
        if count:
            log.warning(
                "%s: %d LoRA %s two %s, one for B and one for A. %s",
                title,
                count,
                "pair has" if count == 1 else "pairs have",
                "learning rates" if name == "lr" else f"values of {name}",
                "The geometric mean is used, because the product has a single "
                "learning rate."
                if name in mean
                else "The value of B is used for both factors.",
            )


def log_frozen(title: str, names: Sequence[str]) -> None:
    """Log pairs with a factor that was frozen after the optimizer was created."""
    log.warning(
        "%s: one factor of %d LoRA pairs is frozen. The other one is trained with "
        "AdamW: %s",
        *(title, len(names), _shown(names)),
    )


def log_replaced(title: str, entry: Method, before: Groups, after: Groups) -> None:
    """Log options of parameter groups that were replaced by loading a state.

    Args:
        title: name of the optimizer.
        entry: catalogue entry of the method.
        before: parameter groups before loading.
        after: parameter groups after loading.
    """
    changed = {
        f"{option.name}={new[option.name]!r} instead of {old[option.name]!r}"
        for old, new in zip(before, after, strict=True)
        for option in entry.options
        if option.name in old and old[option.name] != new[option.name]
    }
    if changed:
        log.warning(
            "%s: the options of the loaded state replace the current options: %s. "
            "To keep the current options, set them in param_groups after loading.",
            *(title, ", ".join(sorted(changed))),
        )


def log_restarted(names: Sequence[str]) -> None:
    """Log pairs whose B was set to zero, if any."""
    if names:
        log.warning(
            "B of %d LoRA pairs is zero, probably because the LoRA was merged into "
            "the base model. The state of these pairs is reset: %s",
            *(len(names), _shown(names)),
        )


def _rate(group: Mapping[str, Any], rule: Rule) -> str:
    lr, ratio = float(group["lr"]), rule.rest_lr_ratio(group)
    return f"{lr:g}" if ratio == 1 else f"{lr * ratio:g} = {ratio:g} x {lr:g}"


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


class FirstSteps:
    """Log pairs without gradients and unusual learning rates after the first steps.

    The values of gradients are not read. Pairs are stored by name, so that a copy of
    the optimizer can continue.
    """

    def __init__(self, title: str, entry: Method, groups: Groups) -> None:
        self._title, self._entry = title, entry
        self._initial = [group["lr"] for group in groups]
        self._trained: set[str] = set()
        self._calls: Counter[tuple[str, str]] = Counter()
        self._count = 0
        self.reports_idle = True
        """Whether pairs without gradients are unexpected."""

    @property
    def over(self) -> bool:
        """Return whether the messages were logged."""
        return self._count >= _WATCHED

    def end_step(
        self, trained: Iterable[str], pairs: Sequence[Pair], groups: Groups
    ) -> None:
        """Count a step in which the given pairs had gradients. Log after the third.

        Args:
            trained: names of pairs.
            pairs: all pairs.
            groups: parameter groups.
        """
        if self.over:
            return
        self._trained.update(trained)
        self._count += 1
        if self.over:
            self._report_idle(pairs)
            factors = {id(p) for pair in pairs for p in (pair.up, pair.down)}
            self._report_rates(groups, factors)

    def end_factor(
        self, name: str, role: str, pairs: Sequence[Pair], groups: Groups
    ) -> None:
        """Count the step of a factor that is updated alone. Log at the fourth step."""
        if self.over:
            return
        self._calls[name, role] += 1
        self._trained.add(name)
        if self._calls[name, role] > _WATCHED:
            self._count = _WATCHED - 1
            self.end_step((), pairs, groups)

    def _report_idle(self, pairs: Sequence[Pair]) -> None:
        idle = [pair.name for pair in pairs if pair.name not in self._trained]
        if idle and self.reports_idle:
            log.warning(
                "%s: %d of %d LoRA pairs had no gradient for %d steps and are not "
                "trained: %s. Their adapter is inactive (see set_adapter of peft), "
                "frozen, or does not affect the loss. Create the optimizer after "
                "calling set_adapter.",
                *(self._title, len(idle), len(pairs), _WATCHED, _shown(idle)),
            )

    def _report_rates(self, groups: Groups, factors: set[int]) -> None:
        noted = set()
        for index, group in enumerate(groups):
            if not any(id(p) in factors for p in group["params"]):
                continue
            note = self._rate_note(index, group)
            if note is not None and note not in noted:
                noted.add(note)
                log.warning("%s: %s", self._title, note)

    def _rate_note(self, index: int, group: Mapping[str, Any]) -> str | None:
        """Return a note on an unusual learning rate, or None."""
        rates = [group["lr"], *self._initial[index : index + 1]]
        if "initial_lr" in group:
            rates = [group["initial_lr"]]
        if any(isinstance(r, Tensor) and r.device.type != "cpu" for r in rates):
            return None
        if group.get(NOTED_LR) in rates:
            return None
        notes = [
            rate_note(self._entry, rate, group, "lr")
            for rate in sorted(map(float, rates))
        ]
        return notes[-1] if all(notes) else None
