"""The example of metrics and traces, as a program: the SDK writes its spans to the global provider of a process."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TREE = """\
POST /orders
  create_orchestration:settle
    payload upload CreateInstanceRequest.input
    payload download ExecutionStartedEvent.input
    orchestration:settle
      payload upload ScheduleTaskAction.input
      activity:bill
        activity:bill
        payload upload ActivityResponse.result
      payload upload ScheduleTaskAction.input
      activity:archive
        activity:archive
"""
# In JSON a text has two bytes more. The second activity gets both, as the input of one and the result of the other.
METRICS = {
    "transfers direction=upload field=CreateInstanceRequest.input outcome=ok: 1",
    "transfers direction=upload field=ScheduleTaskAction.input outcome=ok: 2",
    "transfers direction=upload field=ActivityResponse.result outcome=ok: 1",
    "transfers direction=download field=ExecutionStartedEvent.input outcome=ok: 1",
    "size direction=upload field=CreateInstanceRequest.input outcome=ok: 1,000,002 By in 1",
    "size direction=upload field=ScheduleTaskAction.input outcome=ok: 3,000,004 By in 2",
    "size direction=upload field=ActivityResponse.result outcome=ok: 2,000,002 By in 1",
    "size direction=download field=ExecutionStartedEvent.input outcome=ok: 1,000,002 By in 1",
}


def test_the_spans_nest_and_the_metrics_add_up(tmp_path: Path) -> None:
    picture = tmp_path / "trace.png"
    program = [sys.executable, "-m", "tests.examples.observability", str(picture)]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    tree, metrics = done.stdout.split("\n\n")
    assert re.sub(r"  [\d.]+ ms$", "", tree, flags=re.MULTILINE) + "\n" == TREE
    lines = {line.removeprefix("durabletask.payloads.") for line in metrics.splitlines()}
    assert {line for line in lines if "outcome=cached" not in line} == METRICS
    assert picture.read_bytes().startswith(b"\x89PNG")
