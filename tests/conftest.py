"""Fixtures for all tests."""

from __future__ import annotations

import sys

from tests.support.fixtures import azurite, bucket, container, engine, proxy, s3, walks

# There is no obstore for it that has what the store needs.
collect_ignore_glob = ["stores/test_object_*.py"] if sys.version_info < (3, 11) else []

__all__ = ["azurite", "bucket", "container", "engine", "proxy", "s3", "walks"]
