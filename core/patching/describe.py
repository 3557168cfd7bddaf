"""One short line that tells a person what a revision changes."""

from __future__ import annotations

from core.patching.diff import count_changes
from core.patching.errors import PatchError, quote_text
from core.patching.outline import Outline, outline

_NAMED_CHANGES = 4
_LITERAL_WIDTH = 24


def describe_change(parent: str, child: str) -> str:
    """Return what the child changes: `MATRIX_LR 0.04 → 0.05` where only constants differ, else `+12 −3 lines`."""
    if parent == child:
        return "no change"
    before, after = _outline_or_none(parent), _outline_or_none(child)
    if before is not None and after is not None and before.template.pieces == after.template.pieces:
        changes = [
            f"{name} {quote_text(old, _LITERAL_WIDTH)} → {quote_text(new, _LITERAL_WIDTH)}"
            for name, old, new in zip(after.template.names, before.literals, after.literals, strict=True)
            if old != new
        ]
        more = len(changes) - _NAMED_CHANGES
        return ", ".join(changes[:_NAMED_CHANGES]) + (f" and {more} more" if more > 0 else "")
    added, removed = count_changes(parent, child)
    return f"+{added} −{removed} lines"


def _outline_or_none(source: str) -> Outline | None:
    try:
        return outline(source)
    except PatchError:
        return None
