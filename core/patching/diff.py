"""Unified diffs and their exact inverse: how the journal holds a revision.

Lines end at "\\n" and nowhere else, so that form feeds, lone carriage returns and Unicode separators are ordinary
characters and every text survives. The format is that of diff -u and git: `git apply` takes it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from core.patching.errors import PatchError

_HEADER = ("--- a/train.py\n", "+++ b/train.py\n")
_NO_NEWLINE = "\\ No newline at end of file\n"
_CONTEXT_LINES = 3
_RANGE = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@\n\Z", re.ASCII)

Opcode = tuple[str, int, int, int, int]


def split_lines(text: str) -> list[str]:
    """Return the lines of a text with their "\\n"; only the last may lack it. The empty text has none."""
    lines = text.split("\n")
    last = lines.pop()
    whole = [line + "\n" for line in lines]
    return [*whole, last] if last else whole


def changed_blocks(old: Sequence[str], new: Sequence[str]) -> list[Opcode]:
    """Return the differences between two lists of lines as difflib opcodes, without the equal ones."""
    shortest = min(len(old), len(new))
    head = 0
    while head < shortest and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < shortest - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    # Most changes touch a few lines of many: difflib sees only what lies between the first and the last of them.
    matcher = SequenceMatcher(None, old[head : len(old) - tail], new[head : len(new) - tail])
    return [
        (tag, i1 + head, i2 + head, j1 + head, j2 + head)
        for tag, i1, i2, j1, j2 in matcher.get_opcodes()
        if tag != "equal"
    ]


def count_changes(parent: str, child: str) -> tuple[int, int]:
    """Return how many lines the child adds to the parent and how many it removes."""
    blocks = changed_blocks(split_lines(parent), split_lines(child))
    return sum(j2 - j1 for _, _, _, j1, j2 in blocks), sum(i2 - i1 for _, i1, i2, _, _ in blocks)


def unified_diff(parent: str, child: str) -> str:
    """Return the patch that turns the parent into the child; equal texts give the empty patch."""
    old, new = split_lines(parent), split_lines(child)
    out: list[str] = []
    for group in _grouped(changed_blocks(old, new)):
        first, last = group[0], group[-1]
        lead = min(_CONTEXT_LINES, first[1])
        trail = min(_CONTEXT_LINES, len(old) - last[2])
        old_range = _range(first[1] - lead, last[2] + trail)
        new_range = _range(first[3] - lead, last[4] + trail)
        out.append(f"@@ -{old_range} +{new_range} @@\n")
        at = first[1] - lead
        for _, i1, i2, j1, j2 in group:
            out += [_marked(" ", line) for line in old[at:i1]]
            out += [_marked("-", line) for line in old[i1:i2]]
            out += [_marked("+", line) for line in new[j1:j2]]
            at = i2
        out += [_marked(" ", line) for line in old[at : at + trail]]
    return "".join([*_HEADER, *out]) if out else ""


def _grouped(blocks: Sequence[Opcode]) -> list[list[Opcode]]:
    """Group blocks whose context would touch: each group becomes one hunk."""
    groups: list[list[Opcode]] = []
    for block in blocks:
        if groups and block[1] - groups[-1][-1][2] <= 2 * _CONTEXT_LINES:
            groups[-1].append(block)
        else:
            groups.append([block])
    return groups


def _range(start: int, end: int) -> str:
    # An empty range names the line before it, as diff -u does.
    length = end - start
    return f"{start + 1}" if length == 1 else f"{start + (length > 0)},{length}"


def _marked(mark: str, line: str) -> str:
    return mark + line if line.endswith("\n") else f"{mark}{line}\n{_NO_NEWLINE}"


def apply_patch(parent: str, patch: str) -> str:
    """Return the child: `apply_patch(a, unified_diff(a, b)) == b` for all texts a and b.

    Nothing is guessed: raises PatchError when the patch is malformed or any line of it does not fit the parent.
    """
    if not patch:
        return parent
    lines = split_lines(patch)
    if tuple(lines[:2]) != _HEADER or len(lines) == 2:
        raise PatchError("the patch is not a unified diff of train.py: it lacks the header or hunks")
    old = split_lines(parent)
    out: list[str] = []
    at, copied = 2, 0
    while at < len(lines):
        ranges = _RANGE.match(lines[at])
        if ranges is None:
            raise PatchError(f"the patch is malformed at its line {at + 1}: expected @@ -line,count +line,count @@")
        start, old_count, new_start, new_count = _numbers(ranges)
        hunk_line = at + 1
        at, removed, added = _read_hunk(lines, at + 1, old_count, new_count)
        if start < copied or old[start : start + old_count] != removed:
            raise PatchError(f"the hunk at line {hunk_line} of the patch does not fit its parent revision")
        out += old[copied:start]
        if new_start != len(out):
            raise PatchError(f"the hunk at line {hunk_line} of the patch does not start where it says")
        out += added
        copied = start + old_count
    out += old[copied:]
    if any(not line.endswith("\n") for line in out[:-1]):
        raise PatchError("the patch puts lines after one that has no newline: it does not fit its parent revision")
    return "".join(out)


def _numbers(ranges: re.Match[str]) -> tuple[int, int, int, int]:
    """Return the start (from 0) and the count of a hunk, in the old file and in the new."""
    old_start, new_start = int(ranges[1]), int(ranges[3])
    old_count = 1 if ranges[2] is None else int(ranges[2])
    new_count = 1 if ranges[4] is None else int(ranges[4])
    return old_start - (old_count > 0), old_count, new_start - (new_count > 0), new_count


def _read_hunk(lines: Sequence[str], at: int, old_count: int, new_count: int) -> tuple[int, list[str], list[str]]:
    """Read a hunk's body by its counts; return the line after it, its old lines and its new lines."""
    old: list[str] = []
    new: list[str] = []
    while len(old) < old_count or len(new) < new_count:
        if at >= len(lines) or lines[at][0] not in " -+" or not lines[at].endswith("\n"):
            raise PatchError(f"the patch is malformed at its line {at + 1}: a hunk ends too early")
        mark, line = lines[at][0], lines[at][1:]
        at += 1
        if at < len(lines) and lines[at] == _NO_NEWLINE:
            line = line[:-1]
            at += 1
        if mark != "+":
            old.append(line)
        if mark != "-":
            new.append(line)
    if len(old) != old_count or len(new) != new_count:
        raise PatchError(f"the patch is malformed before its line {at + 1}: a hunk has more lines than it says")
    return at, old, new
