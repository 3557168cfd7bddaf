"""Random draws of the simulated world: each is a pure function of its key, never the next of a stream.

So the order in which things are asked does not matter, and a resumed session meets the same world.
"""

from __future__ import annotations

import hashlib
import math
from statistics import NormalDist

_NORMAL = NormalDist()
_TWO_53 = 2.0**53


def uniform(*key: int | str) -> float:
    """A number in (0, 1), open on both sides, that this key always gives."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return ((int.from_bytes(digest, "big") >> 11) + 0.5) / _TWO_53


def normal(*key: int | str) -> float:
    """A draw from the standard normal distribution."""
    return _NORMAL.inv_cdf(uniform(*key))


def exponential(mean: float, *key: int | str) -> float:
    """A draw from the exponential distribution with this mean (in the mean's unit)."""
    return -mean * math.log(uniform(*key))
