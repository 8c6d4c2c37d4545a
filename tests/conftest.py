"""Fixtures for all tests."""

from __future__ import annotations

from tests.support.fixtures import azurite, container

__all__ = ["azurite", "container"]
