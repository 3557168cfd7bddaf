"""Names of nodes and devices in few cells: what tells them apart stays."""

from __future__ import annotations

import re
from typing import Final

from rich.cells import cell_len

NAME_CELLS: Final = 12
_DOMAIN: Final = re.compile(r"^([^./]*[^\d./][^./]*)\.[^/]*")
"""A host's first label, with a letter in it (so not an address), and the domain that follows."""


def short_name(name: str, width: int = NAME_CELLS, ellipsis: str = "…") -> str:
    """A clean name in at most `width` cells: without its domain, then without its beginning.

    Nodes of a cloud share their beginnings (`gke-pool-h100-8f2c-abcd`) and domains (`ip-10-0-3-7.ec2.internal`).
    """
    if cell_len(name) <= width:
        return name
    name = _DOMAIN.sub(r"\1", name)
    if cell_len(name) <= width:
        return name
    if width <= cell_len(ellipsis):
        return ellipsis[: max(0, width)]
    kept = name
    while cell_len(kept) > width - cell_len(ellipsis):
        kept = kept[1:]
    return ellipsis + kept


def fit_name(name: str, width: int, ellipsis: str = "…") -> str:
    """The same in exactly `width` cells."""
    short = short_name(name, width, ellipsis)
    return short + " " * (width - cell_len(short))
