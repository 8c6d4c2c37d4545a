"""The generator: turns a .proto and a field policy into walkers, one pair of functions for each message.

Four stages, one module each: `descriptors` (reads the schema) -> `model` (decides what to generate) -> `render` (fills
the templates) -> `write` (writes the files, or compares them). `cli` and `plugin` are the two entry points.
"""

from ._version import GENERATOR_VERSION

__all__ = ["GENERATOR_VERSION"]
