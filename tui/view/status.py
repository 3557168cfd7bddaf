"""The status line: what is said of the whole session, piece by piece, and which pieces a width has room for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len

from core.model_summary import TROUBLE
from core.sources import Mode
from core.state import SessionState
from core.summary import Standing, Summary
from tui.palette import Role
from tui.text import clean
from tui.view.model import SIGNS, model_name, money_words, now_words
from tui.view.words import clock_words, count_words, score_words

SEPARATOR: Final = "  "


class Piece(NamedTuple):
    """A part of the status line. The lowest `priority` is the last to go."""

    text: str
    role: Role
    priority: int


def status_pieces(summary: Summary, mode: Mode, problem: str = "") -> tuple[Piece, ...]:
    """All that the status line would say, left to right, given room."""
    pieces = [Piece(clean(summary.session) or "no events yet", Role.TEXT, 1), _mode_piece(summary.state, mode)]
    if problem:
        pieces.append(Piece("journal damaged", Role.FAILED, 0))
    pieces += [Piece(word, Role.FAILED, 0) for word in _warnings(summary)]
    pieces += _cluster_pieces(summary)
    if summary.executor not in ("", "local", "sim"):
        pieces.append(Piece(clean(summary.executor), Role.TEXT, 8))
    if summary.phase is not None and summary.state not in ("ended", "failed"):
        pieces.append(Piece(f"{clean(summary.phase.name)} phase", Role.CONFIRMED, 6))
    pieces += _model_pieces(summary)
    pieces.append(Piece(count_words(summary.runs.submitted, "run"), Role.TEXT, 4))
    pieces.append(Piece(f"{summary.kept} kept", Role.KEPT, 5))
    pieces += _best_pieces(summary)
    gpus = summary.gpus
    pieces.append(Piece(f"{gpus.busy}/{gpus.total} devices busy", Role.BUSY if gpus.busy else Role.MUTED, 7))
    if summary.runs.failed:
        pieces.append(Piece(f"{summary.runs.failed} failed", Role.FAILED, 8))
    return tuple(pieces)


def fit_pieces(pieces: Sequence[Piece], width: int) -> tuple[Piece, ...]:
    """The pieces that fit into `width` cells: the least important go first, none is cut in the middle."""
    kept = list(pieces)
    while kept and _cells(kept) > width:
        kept.remove(max(kept, key=lambda piece: piece.priority))
    return tuple(kept)


def _cells(pieces: Sequence[Piece]) -> int:
    return sum(cell_len(piece.text) for piece in pieces) + len(SEPARATOR) * (len(pieces) - 1)


def _mode_piece(standing: Standing, mode: Mode) -> Piece:
    if mode == "replay":
        return Piece("▶ replay", Role.CONFIRMED, 2)
    if standing in ("ended", "failed"):
        return Piece(f"■ {standing}", Role.FAILED if standing == "failed" else Role.MUTED, 2)
    if mode == "engine gone":
        return Piece("○ engine gone", Role.FAILED, 2)
    return Piece("● live" if standing in ("new", "running") else f"● {standing}", Role.OBSERVED, 2)


def _warnings(summary: Summary) -> list[str]:
    """What every surface must say: that nothing here is real, or that scores were measured without confinement."""
    words = ["simulated"] if summary.simulated else []
    if summary.model is not None and summary.model.simulated and not summary.simulated:
        words.append("simulated model")
    words += ["disk full"] if "disk" in summary.limits else []
    return [*words, "unconfined"] if "unconfined" in summary.tiers else words


def _cluster_pieces(summary: Summary) -> list[Piece]:
    """What keeps a cluster from taking runs; `cluster_words` has the whole sentence."""
    pieces = []
    held = sum(run.held for run in summary.waiting)
    if summary.state in ("ended", "failed"):
        return []
    if summary.notice is not None and summary.notice.level != "info":
        pieces.append(Piece("! cluster", Role.FAILED if summary.notice.level == "error" else Role.WAITING, 0))
    if held:
        pieces.append(Piece(f"{count_words(held, 'run')} held", Role.FAILED, 3))
    elif summary.waiting:
        pieces.append(Piece(f"{count_words(len(summary.waiting), 'run')} waiting", Role.WAITING, 7))
    return pieces


def cluster_words(state: SessionState) -> str:
    """What the world does to the executor as a whole, and since when; empty where it lets it work."""
    notice = state.now.notice
    if notice is None or notice.level == "info" or state.now.ended is not None:
        return ""
    return f"Since {clock_words(notice.t)} the cluster has trouble: {clean(notice.text)}"


def _model_pieces(summary: Summary) -> list[Piece]:
    """What the model does goes late, its troubles last of all; what it cost, how full and how well cached it is."""
    model = summary.model
    if model is None:
        return []
    sign, role = SIGNS[model.status]
    trouble = model.status in TROUBLE
    pieces = []
    if model.status != "ended":
        name = "" if trouble else f"{model_name(model.id)} "
        pieces.append(Piece(f"{sign} {name}{now_words(model)}", role, 0 if trouble else 4))
    if model.autopilot and model.status != "ended":
        pieces.append(Piece("autopilot", Role.WAITING, 2))
    pieces.append(Piece(money_words(model), Role.TEXT, 3))
    if model.roll_tokens and model.context_tokens and model.status != "ended":
        pieces.append(Piece(f"ctx {model.context_tokens / model.roll_tokens:.0%}", Role.MUTED, 10))
    if model.cache_share is not None:
        pieces.append(Piece(f"cache {model.cache_share:.0%}", Role.MUTED, 11))
    return pieces


def _best_pieces(summary: Summary) -> list[Piece]:
    best = summary.best
    pieces = []
    if best.observed is not None:
        pieces.append(Piece(f"best observed {score_words(best.observed)}", Role.OBSERVED, 9))
    if best.confirmed is not None:
        half = f" ±{(best.interval[1] - best.interval[0]) / 2:.4f}" if best.interval is not None else ""
        pieces.append(Piece(f"best confirmed {score_words(best.confirmed)}{half}", Role.CONFIRMED, 3))
    return pieces
