"""What a run would cost and score: a law with a correction, fitted to published runs; nothing here is random."""

from sim.surrogate.cost import cost_of
from sim.surrogate.curve import loss_at
from sim.surrogate.effects import unmodelled_knobs
from sim.surrogate.predict import forecast

__all__ = ["cost_of", "forecast", "loss_at", "unmodelled_knobs"]
