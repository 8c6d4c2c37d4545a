"""The command `purge`: carries out the scheduler's ledger of purged payloads, or has it kept."""

import logging
import threading
from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from ._errors import CommandError
from ._options import AsJson, Credential, Debug, Hub, Secure, StoreUrl, TaskHub, open_store
