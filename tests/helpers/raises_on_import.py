"""A module that cannot be imported."""

raise AttributeError("a broken line")
