"""Kubernetes quantities as numbers: `500m`, `8Gi`, `12`."""

from __future__ import annotations

import re
from typing import Final

_SUFFIX: Final = {
    "": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50,
}  # fmt: skip
_FORM: Final = re.compile(r"([+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*([A-Za-z]*)")


def number(quantity: object) -> float:
    """The value of a quantity; 0 for what is none."""
    match = _FORM.fullmatch(str(quantity).strip())
    return float(match[1]) * _SUFFIX[match[2]] if match is not None and match[2] in _SUFFIX else 0.0
