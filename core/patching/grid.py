"""Grids and variants: the short notation in which a researcher asks for many overrides at once."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator

from core.patching.errors import PatchError, quote_text

MAX_GRID_POINTS = 256
_FACTOR = re.compile(r"\s*([A-Z][A-Z0-9_]*)\s*=(?!=)\s*(.*?)\s*\Z", re.DOTALL)
_NEXT_NAME = re.compile(r"(?<=\s)[A-Z][A-Z0-9_]*\s*=(?!=)")
_CLOSING = {"(": ")", "[": "]", "{": "}"}


def parse_grid(text: str, *, limit: int = MAX_GRID_POINTS) -> list[dict[str, str]]:
    """Return every combination of a grid such as "DEPTH=8,10,12; MATRIX_LR=0.03,0.04".

    The last factor varies fastest; values are literal texts for `set_constants`, which checks them. An empty text
    is the product of no factors: one combination that overrides nothing. Raises PatchError for a text that is no
    grid, a name or value given twice, and more than `limit` combinations.
    """
    factors: dict[str, list[str]] = {}
    for part in _split(text, ";"):
        if not part.strip():
            continue
        name, values_text = _factor(part, 'a grid is written "DEPTH=8,10; MATRIX_LR=0.03,0.04"')
        values = [value.strip() for value in _split(values_text, ",")]
        if name in factors:
            raise PatchError(f"the grid gives {name} twice: list all its values once, {name}=1,2,3")
        for value in values:
            if not value:
                raise PatchError(f"the grid has an empty value for {name}: write {name}=1,2,3")
            if values.count(value) > 1:
                raise PatchError(f"the grid lists {name}={quote_text(value)} twice: remove one")
        factors[name] = values
    points = math.prod(len(values) for values in factors.values())
    if points > limit:
        sizes = " x ".join(str(len(values)) for values in factors.values())
        raise PatchError(f"the grid has {points:,} combinations ({sizes}), more than {limit}: list fewer values")
    return [dict(zip(factors, values, strict=True)) for values in itertools.product(*factors.values())]


def parse_variant(text: str) -> dict[str, str]:
    """Return the overrides of one variant such as "DEPTH=10 ADAM_BETAS=(0.8, 0.95)", separated by white space.

    Values are literal texts for `set_constants`, which checks them. Raises PatchError for a text that is no variant
    and a name given twice.
    """
    usage = 'a variant is written "DEPTH=10 MATRIX_LR=0.03"'
    overrides: dict[str, str] = {}
    if not text.strip():
        return overrides
    bare = _blank_nested(" " + text)
    starts = [0, *(match.start() for match in _NEXT_NAME.finditer(bare) if bare[: match.start()].strip())]
    for start, end in itertools.pairwise([*starts, len(bare)]):
        name, value = _factor((" " + text)[start:end], usage)
        if any(c in bare[start:end] for c in ",;"):
            raise PatchError(f"{name}={quote_text(value)} has a comma or semicolon outside brackets: {usage}")
        if not value:
            raise PatchError(f"the variant gives no value for {name}: {usage}")
        if name in overrides:
            raise PatchError(f"the variant gives {name} twice: remove one")
        overrides[name] = value
    return overrides


def _factor(text: str, usage: str) -> tuple[str, str]:
    match = _FACTOR.match(text)
    if match is None:
        raise PatchError(f"{quote_text(text)!r} is not NAME=value with a NAME in capitals: {usage}")
    return match[1], match[2]


def _split(text: str, separator: str) -> Iterator[str]:
    """Yield the parts of a text between separators that stand outside brackets and quotes."""
    bare = _blank_nested(text)
    start = 0
    for at, c in enumerate(bare):
        if c == separator:
            yield text[start:at]
            start = at + 1
    yield text[start:]


def _blank_nested(text: str) -> str:
    """Return the text, of the same length, with everything inside brackets and quotes turned into `_`."""
    out: list[str] = []
    open_until: list[str] = []  # the closers that are awaited, innermost last; a quote hides what is inside it
    escaped = False
    for c in text:
        inner = open_until[-1] if open_until else ""
        out.append("_" if open_until else c)
        if escaped:
            escaped = False
        elif inner and inner in "'\"":
            escaped = c == "\\"
            if c == inner:
                open_until.pop()
        elif c == inner:
            open_until.pop()
        elif c in "'\"":
            open_until.append(c)
        elif c in _CLOSING:
            open_until.append(_CLOSING[c])
        elif c in ")]}":
            raise PatchError(f"{quote_text(text)!r} has a {c!r} that nothing opens: balance the brackets")
    if open_until:
        raise PatchError(f"{quote_text(text)!r} lacks a closing {open_until[-1]!r}: add it")
    return "".join(out)
