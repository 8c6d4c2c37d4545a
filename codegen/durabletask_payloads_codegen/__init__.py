"""The generator: turns a .proto and a field policy into walkers, one pair of functions for each message.

Five stages, one module each: `schema` (reads it) -> `descriptors` (declares its messages) -> `model` (decides what to
generate) -> `render` (fills the templates) -> `write` (writes the files, or compares them). `cli` and `plugin` are the
two entry points, `settings` is what they have in common.
"""

from ._version import GENERATOR_VERSION

__all__ = ["GENERATOR_VERSION"]
