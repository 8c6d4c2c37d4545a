"""The figures as a table, as JSON and as a picture."""

# matplotlib's own types leave parts open:
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("agg")

from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, StrMethodFormatter
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from tests.benchmarks.rows import Curve, Row, Speeds

_REFERENCE = f"durabletask {version('durabletask')}"
_COLOURS = {"reference": "#9a3412", "ours": "#1d4ed8", "floor": "#6b7280"}


def table(rows: Sequence[Row]) -> Table:
    """One line for each of `rows`; what missed its target is red."""
    drawn = Table(title=f"against {_REFERENCE}, medians of alternating runs", header_style="bold", title_justify="left")
    for name in ("case", "target", "reference", "ours", "kept", "floor", "ratio"):
        drawn.add_column(name, justify="left" if name == "case" else "right", no_wrap=name != "case")
    for row in rows:
        is_count = row.unit == "downloads"
        target = "" if row.target is None else f"{row.target:.0f}" if is_count else f"{row.target:.2g}x"
        figures = [_figure(value, row) for value in (row.reference, row.ours, row.kept, row.floor)]
        ratio = "" if is_count else f"{row.ratio:.3g}x"
        drawn.add_row(row.case, target, *figures, ratio, style="" if row.reaches() else "red")
    return drawn


def curve_table(curve: Curve) -> Table:
    """One line for each point of `curve`."""
    drawn = Table(title=curve.title, header_style="bold", title_justify="left")
    for name in (curve.x_label, "reference", "ours", "floor", "ratio"):
        drawn.add_column(name, justify="right")
    for i, x in enumerate(curve.xs):
        floor = _time(curve.floor[i]) if curve.floor else ""
        theirs, ours = curve.reference[i], curve.ours[i]
        drawn.add_row(f"{x:,}", _time(theirs), _time(ours), floor, f"{theirs / ours:.3g}x")
    return drawn


def speed_table(speeds: Speeds) -> Table:
    """One line for each point of `speeds`."""
    drawn = Table(title=f"{speeds.title}, MB/s", header_style="bold", title_justify="left")
    for name in (speeds.x_label, *speeds.series):
        drawn.add_column(name, justify="right")
    for i, x in enumerate(speeds.xs):
        drawn.add_row(f"{x:,}", *(f"{values[i]:.0f}" for values in speeds.series.values()))
    return drawn


def write_json(
    path: Path,
    rows: Sequence[Row],
    curves: Sequence[Curve],
    speeds: Sequence[Speeds],
    per_event: Mapping[int, float],
) -> None:
    """All figures, with what they were measured on. Times are in seconds."""
    document = {
        "reference": _REFERENCE,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "packages": {name: version(name) for name in ("protobuf", "grpcio", "azure-storage-blob", "isal", "obstore")},
        "rows": [{**asdict(row), "ratio": _finite(row.ratio), "reached": row.reaches()} for row in rows],
        "curves": [asdict(curve) for curve in curves],
        "speeds": [asdict(one) for one in speeds],
        "seconds_per_event": {str(count): seconds for count, seconds in per_event.items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def draw(path: Path, curves: Sequence[Curve], speeds: Sequence[Speeds]) -> None:
    """The curves beside each other, both axes logarithmic; then the speeds."""
    count = len(curves) + len(speeds)
    figure, axes = plt.subplots(1, count, figsize=(6 * count, 4.5), squeeze=False)
    for axis, curve in zip(axes[0], curves, strict=False):
        _draw_one(axis, curve)
    for axis, one in zip(axes[0][len(curves) :], speeds, strict=True):
        _draw_speeds(axis, one)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def _draw_one(axis: Axes, curve: Curve) -> None:
    labels = {"reference": _REFERENCE, "ours": "durabletask-payloads", "floor": f"floor: {curve.floor_is}"}
    lines = {"reference": curve.reference, "ours": curve.ours, "floor": curve.floor}
    for name, ys in lines.items():
        if ys:
            style = "--" if name == "floor" else "-"
            axis.plot(curve.xs, ys, style, marker="o", markersize=4, color=_COLOURS[name], label=labels[name])
    axis.set(xscale="log", yscale="log", title=curve.title, xlabel=curve.x_label, ylabel="time")
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axis.yaxis.set_major_formatter(FuncFormatter(_tick))
    axis.grid(visible=True, which="major", alpha=0.3)
    axis.legend(frameon=False)


def _draw_speeds(axis: Axes, speeds: Speeds) -> None:
    for label, ys in speeds.series.items():
        axis.plot(speeds.xs, ys, "-", marker="o", markersize=4, label=label)
    axis.set(xscale="log", title=speeds.title, xlabel=speeds.x_label, ylabel="MB/s")
    axis.set_ylim(bottom=0)
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axis.grid(visible=True, which="major", alpha=0.3)
    axis.legend(frameon=False)


def _figure(value: float | None, row: Row) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if row.unit == "downloads" else _time(value)


def _tick(seconds: float, position: object) -> str:
    return _time(seconds)


def _time(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def _finite(ratio: float) -> float | None:
    return None if ratio == float("inf") else ratio
