"""`compare`: sessions side by side, as a table, as JSON for scripts, as a figure."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from core.compare import Axis, Track, caveats, follow, reached
from core.journal import scan
from core.session import SessionFolder, resolve_session
from tui.cli import UserError
from tui.cli.inspect import as_known_here
from tui.cli.options import json_option, print_json
from tui.svg import Line, Panel, step_plot
from tui.text import clean, wrap
from tui.view.compare import comparison_lines

_PIPE_COLUMNS = 80


def _finite(_context: click.Context, _option: click.Parameter, values: tuple[float, ...]) -> tuple[float, ...]:
    for value in values:
        if not math.isfinite(value):
            raise click.BadParameter(f"{value} is no number of bits per byte")
    return values


@click.command()
@click.argument("sessions", nargs=-1, metavar="SESSION...")
@click.option(
    "--to", "thresholds", type=float, multiple=True, callback=_finite, help="When this was confirmed for good."
)
@click.option("--svg", "svg", type=click.Path(dir_okay=False, path_type=Path), help="Write a figure into this file.")
@json_option
def compare(sessions: tuple[str, ...], thresholds: tuple[float, ...], svg: Path | None, as_json: bool) -> None:
    """Put sessions side by side: best confirmed against time and device-hours, runs, devices, failures, cost.

    Any sessions, real or simulated, ended or under way; what makes their numbers incomparable is said. --to 0.98 (as
    often as you like) tells since when, and after how many device-hours, so low a value was confirmed for good.
    """
    if not sessions:
        raise UserError("'compare' needs at least one SESSION; 'autoresearch-tui sessions' lists what there is", 2)
    folders = {folder.path: folder for folder in map(resolve_session, sessions)}
    tracks = [_track(folder) for folder in folders.values()]
    warnings = caveats(tracks)
    if svg is not None:
        svg.write_text(figure(tracks), encoding="utf-8")
    if as_json:
        print_json({"sessions": [_plain(track, thresholds) for track in tracks], "warnings": warnings})
        return
    for line in comparison_lines(tracks, thresholds, _width()):
        click.echo(line)
    for warning in warnings:
        click.echo("\n" + "\n".join(wrap(clean(f"warning: {warning}"), _width())))
    if svg is not None:
        click.echo(f"figure in {svg}", err=True)


def _track(folder: SessionFolder) -> Track:
    """Read one session. Raises JournalDamaged, SessionError, and UserError where it has nothing to compare yet."""
    name = folder.config().name
    track = follow((event for event, _ in scan(folder.journal_dir)), engine_alive=folder.engine_alive())
    if track is None or track.summary.best.baseline is None:
        raise UserError(
            f"session {name} has no score of its baseline, so there is nothing to compare: leave it out, or see how it "
            f"does with 'autoresearch-tui status {name}'"
        )
    return msgspec.structs.replace(track, summary=as_known_here(folder, track.summary))


def _plain(track: Track, thresholds: Sequence[float]) -> dict[str, Any]:
    """A session as JSON has it: all of `status --json`, and beside it what only a comparison knows."""
    plain: dict[str, Any] = msgspec.to_builtins(track.summary)
    found = {f"{threshold:g}": reached(track, threshold) for threshold in thresholds}
    return plain | {
        "target": msgspec.to_builtins(track.target),
        "device_classes": track.device_classes,
        "failures": track.failures,
        "steps": msgspec.to_builtins(track.steps),
        "reached": {name: None if step is None else msgspec.to_builtins(step) for name, step in found.items()},
    }


def figure(tracks: Sequence[Track]) -> str:
    """The best confirmed values as steps over device-hours and over session hours, as SVG."""
    classes = " or ".join(sorted({track.summary.best.device_class or "" for track in tracks}))
    names = [
        track.summary.session
        + (" (SIMULATED)" if track.summary.simulated else "")
        + f", {track.summary.researcher}"
        + (f": {track.steps[-1].mean:.4f}" if track.steps else ": nothing confirmed")
        for track in tracks
    ]
    panels = [
        Panel("device-hours", [_line(track, "device_hours", 1.0) for track in tracks]),
        Panel("session hours", [_line(track, "t_s", 3600.0) for track in tracks]),
    ]
    told = f"Step lines with 95 % intervals, lower is better. {'; '.join(names)}."
    return step_plot(f"Best confirmed val_bpb on {classes}", told, "bits per byte", names, panels)


def _line(track: Track, axis: Axis, unit: float) -> Line:
    return Line(
        x=[getattr(step, axis) / unit for step in track.steps],
        y=[step.mean for step in track.steps],
        low=[step.low for step in track.steps],
        high=[step.high for step in track.steps],
        end=track.end(axis) / unit,
    )


def _width() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPE_COLUMNS
