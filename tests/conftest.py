"""Fixtures for all tests."""

from __future__ import annotations

from tests.support.fixtures import azurite, bucket, container, s3, walks

__all__ = ["azurite", "bucket", "container", "s3", "walks"]
