"""Fixtures for all tests."""

from __future__ import annotations

from tests.support.fixtures import azurite, container, walks

__all__ = ["azurite", "container", "walks"]
