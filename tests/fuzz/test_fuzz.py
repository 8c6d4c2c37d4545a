"""Each target for some hundred cases, what once failed, and that targets can fail."""

from __future__ import annotations

import ast
import re
import sys
import zlib
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.fuzz import __main__ as command
from tests.fuzz.engine import SECRET, Target, fault_of, run_case, shrunk
from tests.fuzz.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Callable

SEED = 1
CASES = 200
_STORES = "durabletask_payloads.stores"
_CORPUS = Path(__file__).with_name("corpus.txt")


def corpus() -> list[tuple[str, str]]:
    """Return the inputs that are kept: the target, and the input as a literal."""
    lines = _CORPUS.read_text(encoding="utf-8").splitlines()
    kept = [line.partition("\t") for line in lines if line and not line.startswith("#")]
    return [(name, literal) for name, _, literal in kept]


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_some_hundred_cases(target: Target) -> None:
    failure = next(filter(None, (run_case(target, SEED, index) for index in range(CASES))), None)
    if failure is not None:
        pytest.fail(str(shrunk(target, failure)), pytrace=False)


@pytest.mark.parametrize(("name", "literal"), corpus(), ids=lambda text: text[:40])
def test_what_once_failed(name: str, literal: str) -> None:
    fault = fault_of(TARGETS[name], ast.literal_eval(literal))
    if fault is not None:
        pytest.fail(f"{fault[1]}\n{name}\t{literal}", pytrace=False)


# ---- planted defects -------------------------------------------------------------------------------------------------


def inflate_all(body: bytes, *, token: str, limit: int, sha256: str | None) -> bytes:
    """Expand a body without a limit, and look at its size and its checksum only then."""
    inflater = zlib.decompressobj(31)
    data = inflater.decompress(body) if body[:2] == b"\x1f\x8b" else body
    assert len(data) <= limit, "too large"
    return data


def show_key(key: str, setting: str) -> None:
    raise ValueError(f"{setting} is {key}")


def always(*_: object) -> bool:
    return True


def unchecked(data: bytes) -> str:
    """Return a checksum of too little of a payload."""
    return sha256(data[:10]).hexdigest()


PLANTED: list[tuple[str, str, object]] = [
    ("token-v1", f"{_STORES}._tokens._V1", re.compile(r"blob:v1:(?P<container>[a-z0-9-]{3,63}):(?P<name>.*)")),
    ("token-object", f"{_STORES}._object_tokens._LONGEST_PREFIX", 239),
    ("connection-string", f"{_STORES}._azure_options._check_key", show_key),
    ("body", f"{_STORES}._remote.decode", inflate_all),
    ("directory", f"{_STORES}._codec.checksum", unchecked),
    ("purge", f"{_STORES}._remote_inventory._is_managed", always),
    ("proto-print", "durabletask_payloads_codegen.proto_text._WORDS", frozenset[str]()),
]


@pytest.mark.parametrize(("name", "place", "defect"), PLANTED, ids=[name for name, _, _ in PLANTED])
def test_a_target_finds_a_planted_defect(
    name: str, place: str, defect: object, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The failure names the command that repeats it."""
    monkeypatch.setattr(place, defect)
    failure = next(filter(None, (run_case(TARGETS[name], SEED, index) for index in range(3_000))))
    repeat = re.search(r'repeat: make fuzz ARGS="(.*)"', str(failure))
    assert repeat is not None
    monkeypatch.setattr(sys, "argv", ["fuzz", *repeat[1].split()])
    assert command.main() == 1
    assert f"input: {failure.sample!r}\n" in capfd.readouterr().out
    monkeypatch.undo()
    monkeypatch.setattr(sys, "argv", ["fuzz", *repeat[1].split()])
    assert command.main() == 0


def test_a_failure_is_made_small_and_can_be_kept() -> None:
    def check(text: str) -> None:
        assert SECRET not in text

    target = Target("small", "", lambda random: f"{random.random()}{SECRET}{random.random()}", check)
    failure = run_case(target, SEED, 0)
    assert failure is not None
    small = shrunk(target, failure)
    assert small.sample == SECRET
    assert f"small\t{SECRET!r}" in str(small)


@pytest.mark.parametrize("leave", [KeyError, RecursionError, SystemExit, type("Panic", (BaseException,), {})])
def test_whatever_leaves_a_target_is_a_failure(leave: Callable[[], BaseException]) -> None:
    def check(_: object) -> None:
        raise leave()

    assert run_case(Target("leaves", "", lambda random: random.random(), check), SEED, 0) is not None
