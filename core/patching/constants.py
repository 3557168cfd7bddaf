"""The knobs of `train.py`: reading its module-level constants and replacing their literals."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from msgspec import Struct

from core.patching.errors import PatchError, quote_text
from core.patching.literals import Value, literal_text
from core.patching.outline import Template, line_numbers, outline


class Constant(Struct, frozen=True):
    """One constant of a source: `source[start:end] == literal`, and `line` (from 1) is where the literal starts."""

    name: str
    value: Value
    literal: str
    start: int
    end: int
    line: int


def read_constants(source: str) -> dict[str, Constant]:
    """Return the constants of a source by name, in the order of the file.

    A constant is an UPPERCASE name bound exactly once in the module, by an assignment at its top level, to a plain
    literal (see `literals`). Raises PatchError when the source is not valid Python.
    """
    known = outline(source)
    lines = line_numbers(known)
    constants: dict[str, Constant] = {}
    start = 0
    for i, name in enumerate(known.template.names):
        start += len(known.template.pieces[i])
        literal = known.literals[i]
        end = start + len(literal)
        constants[name] = Constant(name, known.values[i], literal, start, end, lines[i])
        start = end
    return constants


def changed_constants(parent: str, child: str) -> dict[str, str]:
    """Return the constants whose value differs from the parent's, or that it lacks, as the child's literals.

    Raises PatchError when either is not valid Python.
    """
    before, after = outline(parent), outline(child)
    known = dict(zip(before.template.names, before.values, strict=True))
    return {
        name: literal
        for name, value, literal in zip(after.template.names, after.values, after.literals, strict=True)
        if name not in known or known[name] != value
    }


def set_constants(source: str, overrides: Mapping[str, Value]) -> str:
    """Return the source with the literals of some constants replaced; comments and format stay.

    overrides: by name; a `str` is the literal's own text, as a researcher writes it ("2**19", "(0.8, 0.95)",
    "'SSSL'"), any other value is written with `repr`. A source that passed `check_source` passes again afterwards.
    Raises PatchError for a name that is no constant of the source and for a value that is no plain literal.
    """
    known = outline(source)
    template = known.template
    literals = list(known.literals)
    for name, override in overrides.items():
        position = template.position.get(name)
        if position is None:
            raise PatchError(_explain_unknown(template, name))
        literals[position] = literal_text(name, override)
    mixed = [part for pair in zip(template.pieces, literals, strict=False) for part in pair]
    return "".join(mixed) + template.pieces[-1]


def _explain_unknown(template: Template, name: str) -> str:
    reason = template.unsettable.get(name)
    if reason is not None:
        return f"{name} {reason} in train.py, so it cannot be overridden: use an edit"
    close = difflib.get_close_matches(name.upper()[:100], template.names, n=3, cutoff=0.6)
    if close:
        hint = "did you mean " + " or ".join(close) + "?"
    elif template.names:
        hint = "its constants are " + quote_text(", ".join(template.names), 400)
    else:
        hint = "it has no constants: use an edit"
    return f"train.py has no constant {quote_text(name)}; {hint}"
