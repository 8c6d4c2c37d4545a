"""The generator: from a .proto and a field policy to walkers, one pair of functions for each message.

Four stages, a module each: `descriptors` (what the schema says) -> `model` (what to generate) -> `render` (how it
reads) -> `write` (files, or a difference). `cli` and `plugin` are the two ways in.
"""

from ._version import GENERATOR_VERSION

__all__ = ["GENERATOR_VERSION"]
