"""Kubernetes quantities: `500m`, `64Gi`, `1e3` as numbers, and back.

Source: the API's `resource.Quantity`: decimal suffixes m k M G T P E, binary ones Ki Mi Gi Ti Pi Ei, or an exponent.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

_QUANTITY: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?[0-9]{1,2}))?")
_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}


def parse(text: object) -> Decimal:
    """A quantity, which is never negative, as a number. Raises ValueError where the API server would refuse it too."""
    match = _QUANTITY.fullmatch(str(text)) if isinstance(text, str | int | float) else None
    if match is None:
        raise ValueError(f"`{text}` is not a quantity such as 500m, 8 or 64Gi")
    number = Decimal(match[1])
    if match[2] in _BINARY:
        return number * (1 << _BINARY[match[2]])
    exponent = _DECIMAL[match[2]] if match[2] else int(match[3] or 0)
    return number.scaleb(exponent)


def mib(text: object) -> int:
    """A quantity of bytes in whole MiB, rounded down. Raises ValueError."""
    return int(parse(text) / 2**20)
