"""The artefact reader: the very text of a researcher's `train.py`, turned into what the simulation needs to know."""

from sim.artefact.profiler import Profiler
from sim.artefact.reader import read

__all__ = ["Profiler", "read"]
