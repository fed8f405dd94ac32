"""Form fields, created from the JSON schema of the settings."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

from ...config.interval import UNITS

__all__ = ["Field", "Kind", "fields_of", "read_field"]

Node = Mapping[str, Any]

_SCALARS = {"boolean": "FLAG", "integer": "INTEGER", "number": "NUMBER"}


class Kind(enum.Enum):
    """Kind of a field, which determines its editor."""

    FLAG = "flag"
    INTEGER = "integer"
    NUMBER = "number"
    TEXT = "text"
    CHOICE = "choice"
    PATH = "path"
    CHOICES = "choices"
    """Several values of a fixed list."""

    LINES = "lines"
    """List of strings or numbers."""

    RECORDS = "records"
    """List of objects with the fields ``parts``."""

    RECORD = "record"
    """Object with the fields ``parts``."""

    VARIANT = "variant"
    """Optimizer with its options."""

    INTERVAL = "interval"
    """Number of steps, or a text with a unit."""

    JSON = "json"
    """Any other value, edited as JSON."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Field:
    """Setting in a form. Values are JSON data."""

    key: str
    label: str
    doc: str
    kind: Kind
    unset_means: str = ""
    """Value of an empty editor."""

    default: Any = None
    optional: bool = False
    """Whether null is a valid value."""

    low: float | None = None
    high: float | None = None
    choices: tuple[Any, ...] = ()
    parts: tuple[Field, ...] = ()
    item: Kind | None = None
    """Kind of the entries of ``LINES``."""

    @property
    def required(self) -> bool:
        """Return whether the field has no default."""
        return self.default is None and not self.optional

    @property
    def explanation(self) -> str:
        """Tooltip text, including the meaning of an empty field.

        >>> Field(key="a", label="A", doc="Scale.", kind=Kind.NUMBER,
        ...       unset_means="the rank").explanation
        'Scale. Unset: the rank.'
        """
        return (
            f"{self.doc} Unset: {self.unset_means}." if self.unset_means else self.doc
        )


def fields_of(node: Node, definitions: Mapping[str, Node]) -> tuple[Field, ...]:
    """Return the fields of an object schema, in order, without constants."""
    properties = _resolved(node, definitions)["properties"]
    return tuple(
        read_field(key, part, definitions)
        for key, part in properties.items()
        if "const" not in _resolved(part, definitions)
    )


def read_field(key: str, node: Node, definitions: Mapping[str, Node]) -> Field:
    """Build a field from its schema."""
    node = _resolved(node, definitions)
    options = [_resolved(option, definitions) for option in node.get("anyOf", ())]
    optional = any(option.get("type") == "null" for option in options)
    inner = [option for option in options if option.get("type") != "null"]
    common = {
        "key": key,
        "label": node.get("title", key),
        "doc": " ".join(node.get("description", "").split()),
        "unset_means": node.get("unset_means", ""),
        "default": node.get("default"),
        "optional": optional,
    }
    for option in inner:
        if option.get("format") == "interval":
            units = tuple(option.get("units", UNITS))
            return Field(**common, kind=Kind.INTERVAL, choices=units)
    if len(inner) > 1:
        return Field(**common, kind=Kind.JSON)
    return Field(**common, **_details(inner[0] if inner else node, definitions))


def _details(node: Node, definitions: Mapping[str, Node]) -> dict[str, Any]:
    """Return kind and limits of a schema with one type."""
    if "enum" in node:
        return {"kind": Kind.CHOICE, "choices": tuple(node["enum"])}
    if "discriminator" in node:
        return {"kind": Kind.VARIANT}
    type_ = node.get("type")
    if type_ == "string":
        return {"kind": Kind.PATH if node.get("format") == "path" else Kind.TEXT}
    if type_ in _SCALARS:
        return {
            "kind": Kind[_SCALARS[type_]],
            "low": node.get("minimum", node.get("exclusiveMinimum")),
            "high": node.get("maximum", node.get("exclusiveMaximum")),
        }
    if type_ == "array" and "items" in node:
        return _list_details(_resolved(node["items"], definitions), definitions)
    if type_ == "object" and "properties" in node:
        return {"kind": Kind.RECORD, "parts": fields_of(node, definitions)}
    return {"kind": Kind.JSON}


def _list_details(item: Node, definitions: Mapping[str, Node]) -> dict[str, Any]:
    found = _details(item, definitions)
    kind = found["kind"]
    if kind is Kind.RECORD:
        return {"kind": Kind.RECORDS, "parts": found["parts"]}
    if kind is Kind.CHOICE:
        return {"kind": Kind.CHOICES, "choices": found["choices"]}
    if kind in (Kind.TEXT, Kind.PATH, Kind.INTEGER, Kind.NUMBER):
        return {"kind": Kind.LINES, "item": kind}
    return {"kind": Kind.JSON}


def _resolved(node: Node, definitions: Mapping[str, Node]) -> Node:
    """Resolve a reference in a schema and merge it with other entries of the node."""
    reference = node.get("$ref")
    if reference is None:
        return node
    target = _resolved(definitions[reference.rpartition("/")[2]], definitions)
    return {**target, **{key: node[key] for key in node if key != "$ref"}}
