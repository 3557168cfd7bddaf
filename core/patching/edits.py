"""Search/replace edits: how a researcher changes the structure of `train.py`.

The ladder: the old text occurs exactly and once; else its lines occur once with another indentation; else the edit
is refused with the nearest lines. Nothing is ever applied by resemblance.
"""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import islice

from msgspec import Struct

from core.patching.diff import split_lines
from core.patching.errors import PatchError, quote_lines, quote_text

_LISTED_MATCHES = 20
_QUOTED_LINES = 12
# Bounds on the search for the nearest lines: it serves a message, and may not cost seconds on a hostile file.
_COMPARED_LINES = 2000
_COMPARED_CHARS = 120
_COMMON_LINE = 20


class Edit(Struct, frozen=True):
    """One search/replace: `old` is replaced by `new`; an empty `old` makes `new` the whole file."""

    old: str
    new: str


def apply_edits(source: str, edits: Sequence[Edit]) -> str:
    """Return the source after the edits, each applied to the result of the one before.

    Where the file ends all its lines alike (\\n or \\r\\n), the edits' lines are made to end so too.

    Raises PatchError when an edit's `old` is missing (with the nearest lines) or ambiguous (with the lines of all
    matches), and when an edit, or all of them together, changes nothing.
    """
    result = source
    for number, edit in enumerate(edits, start=1):
        label = f"edit {number} of {len(edits)}" if len(edits) > 1 else "the edit"
        changed = _apply(result, edit, label)
        if changed == result:
            raise PatchError(f"{label} changes nothing: give a `new` that differs from what is there, or leave it out")
        result = changed
    if edits and result == source:
        raise PatchError("the edits together change nothing: one undoes the other")
    return result


def _apply(source: str, edit: Edit, label: str) -> str:
    if not edit.old:
        return edit.new
    old, new = _like_file(source, edit.old), _like_file(source, edit.new)
    starts = _occurrences(source, old)
    if len(starts) > 1:
        raise PatchError(_explain_ambiguous(label, [source.count("\n", 0, start) + 1 for start in starts]))
    if starts:
        return source[: starts[0]] + new + source[starts[0] + len(old) :]
    lines, wanted = split_lines(source), split_lines(old)
    places = _line_matches(lines, wanted)
    if len(places) > 1:
        raise PatchError(_explain_ambiguous(label, [place + 1 for place in places]))
    if not places:
        raise PatchError(_explain_missing(label, lines, wanted))
    found = lines[places[0] : places[0] + len(wanted)]
    replacement = _reindent(wanted, found, split_lines(new), label)
    if replacement and not replacement[-1].endswith("\n") and found[-1].endswith("\n"):
        replacement[-1] += "\r\n" if found[-1].endswith("\r\n") else "\n"
    elif replacement and not found[-1].endswith("\n"):
        replacement[-1] = replacement[-1].rstrip("\r\n")
    return "".join([*lines[: places[0]], *replacement, *lines[places[0] + len(wanted) :]])


def _like_file(source: str, text: str) -> str:
    """Return the text with the line ends of the file; unchanged where the file has none or mixes them."""
    ends, windows_ends = source.count("\n"), source.count("\r\n")
    if not ends or 0 < windows_ends < ends:
        return text
    plain = text.replace("\r\n", "\n")
    return plain.replace("\n", "\r\n") if windows_ends else plain


def _occurrences(source: str, old: str) -> list[int]:
    """Return where `old` occurs, overlapping ones too: replacing either would be a guess."""
    starts: list[int] = []
    at = source.find(old)
    while at >= 0 and len(starts) <= _LISTED_MATCHES:
        starts.append(at)
        at = source.find(old, at + 1)
    return starts


def _line_matches(lines: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Return the first line (from 0) of each place whose lines equal the wanted ones but for outer white space."""
    bare = [line.strip() for line in lines]
    target = [line.strip() for line in wanted]
    if not any(target):
        return []
    # Searching for the rarest line first keeps a long `old` from being compared at every line of the file.
    counts = Counter(bare)
    pivot = min((i for i, line in enumerate(target) if line), key=lambda i: counts[target[i]])
    starts = (i - pivot for i, line in enumerate(bare) if line == target[pivot])
    places = (start for start in starts if start >= 0 and bare[start : start + len(target)] == target)
    return list(islice(places, _LISTED_MATCHES + 1))


def _reindent(wanted: Sequence[str], found: Sequence[str], new: Sequence[str], label: str) -> list[str]:
    """Return the new lines, indented in the file as they are in the edit relative to its `old` lines."""
    known: dict[str, str] = {}
    for ours, theirs in zip(wanted, found, strict=True):
        if ours.strip() and known.setdefault(_indent(ours), _indent(theirs)) != _indent(theirs):
            raise PatchError(
                f"{label} fits only with its lines indented unlike each other: copy `old` exactly from the file"
            )
    return [_indented(line, known, label) if line.strip() else line.lstrip(" \t") for line in new]


def _indented(line: str, known: dict[str, str], label: str) -> str:
    indent = _indent(line)
    deepest = max((k for k in known if indent.startswith(k)), key=len, default=None)
    if deepest is not None:
        return known[deepest] + line[len(deepest) :]
    # The line stands further left than every line of `old`: take off as much as it lacks from the leftmost.
    leftmost = min(known, key=len)
    excess = leftmost[len(indent) :]
    if not leftmost.startswith(indent) or not known[leftmost].endswith(excess):
        raise PatchError(
            f"{label} cannot be indented like the file at {quote_text(line)!r}: copy `old` exactly from the file"
        )
    return known[leftmost][: len(known[leftmost]) - len(excess)] + line[len(indent) :]


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" \t"))]


def _explain_ambiguous(label: str, lines: Sequence[int]) -> str:
    listed = ", ".join(map(str, lines[:_LISTED_MATCHES]))
    more = " and more" if len(lines) > _LISTED_MATCHES else ""
    return f"{label} is ambiguous: `old` occurs at lines {listed}{more}; add lines around it until it is unique"


def _explain_missing(label: str, lines: Sequence[str], wanted: Sequence[str]) -> str:
    message = f"{label} does not apply: `old` is not in train.py"
    start = _nearest(lines, wanted)
    if start is None:
        return f"{message}, and no line resembles it: read the file again"
    offset = 0
    for ours, theirs in zip(wanted, lines[start:], strict=False):
        if ours.strip() != theirs.strip():
            break
        offset += 1
    different = wanted[min(offset, len(wanted) - 1)]
    first = max(0, start + offset - _QUOTED_LINES // 2, start)
    last = min(len(lines), first + _QUOTED_LINES, start + len(wanted) + 1)
    quoted = quote_lines((i + 1, lines[i]) for i in range(first, last))
    return f"{message}; it first differs at {quote_text(different)!r}. Copy the nearest lines exactly:\n{quoted}"


def _nearest(lines: Sequence[str], wanted: Sequence[str]) -> int | None:
    """Return the line (from 0) at which the lines resemble the wanted ones most, or None if none does."""
    bare = [line.strip()[:_COMPARED_CHARS] for line in lines[:_COMPARED_LINES]]
    target = [line.strip()[:_COMPARED_CHARS] for line in wanted[:_COMPARED_LINES]]
    places: defaultdict[str, list[int]] = defaultdict(list)
    for i, line in enumerate(bare):
        places[line].append(i)
    # Lines that occur as they are vote for a place; lines that occur everywhere say nothing.
    votes: Counter[int] = Counter()
    for j, line in enumerate(target):
        if line and len(places.get(line, ())) <= _COMMON_LINE:
            votes.update({max(0, i - j): len(line) for i in places.get(line, ())})
    if votes:
        return max(votes, key=lambda place: (votes[place], -place))
    j = max(range(len(target)), key=lambda i: len(target[i]), default=0)
    close = difflib.get_close_matches(target[j], list(places), n=1, cutoff=0.4) if target and target[j] else []
    return max(0, places[close[0]][0] - j) if close else None
