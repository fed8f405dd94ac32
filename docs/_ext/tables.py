"""Directives that write tables from the code, so that docs cannot drift from it.

``{catalogue}`` lists the optimizers with their options, ``{settings}`` the fields of
the configuration.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

__all__ = ["setup"]


class TableDirective(SphinxDirective):
    """Base of directives that make Markdown and let the document's parser read it."""

    def run(self) -> list[nodes.Node]:
        """Parse the generated lines in place."""
        lines = StringList(list(self.lines()), source=type(self).__name__)
        container = nodes.container()
        self.state.nested_parse(lines, self.content_offset, container)
        return container.children

    def lines(self) -> Iterable[str]:
        """Markdown lines."""
        raise NotImplementedError


class Catalogue(TableDirective):
    """One table a method."""

    def lines(self) -> Iterable[str]:
        """A caption line and the options of every method."""
        from stiefel_lora.methods import CATALOGUE

        for entry in CATALOGUE.values():
            policy = "must be the rank" if entry.alpha_policy == "rank" else "free"
            yield f"**{entry.label}**: `{entry.name}`. {entry.summary}"
            yield f"First learning rate to try: {entry.default_lr:g}. Alpha: {policy}."
            yield ""
            yield from table(
                ("option", "default", "valid", "what it does"),
                [
                    (
                        f"`{option.name}`",
                        shown(option.default) or unset(option.unset_means),
                        ", ".join(option.choices) or valid(option.type, option.bounds),
                        option.doc,
                    )
                    for option in entry.options
                ],
            )


class Settings(TableDirective):
    """All fields of the configuration."""

    def lines(self) -> Iterable[str]:
        """One row a field, in the schema's order."""
        from stiefel_lora.config import TrainConfig

        yield from table(
            ("setting", "default", "what it does"),
            [
                (f"`{name}`", default_of(field), " ".join(field.description.split()))
                for name, field in TrainConfig.model_fields.items()
            ],
        )


def default_of(field: object) -> str:
    """Default of a pydantic field, or what it means when it is unset."""
    default = getattr(field, "default", None)
    is_plain = default is None or isinstance(default, bool | int | float | str | tuple)
    extra = getattr(field, "json_schema_extra", None) or {}
    meaning = unset(extra.get("unset_means", ""))
    return (shown(default) if is_plain and not meaning else "") or meaning


def unset(meaning: str) -> str:
    """Words in place of a default value."""
    return f"unset: {meaning}" if meaning else ""


def valid(kind: type, bounds: str) -> str:
    """Valid values of an option that has no choices."""
    return "true, false" if kind is bool else bounds


def shown(value: object) -> str:
    """A value as JSON writes it; nothing for None and the empty list."""
    return "" if value in (None, ()) else f"`{json.dumps(value)}`"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    """A Markdown table with an empty line behind it."""
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |"
    yield ""


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("catalogue", Catalogue)
    app.add_directive("settings", Settings)
    return {"parallel_read_safe": True}
