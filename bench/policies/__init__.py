"""Researchers to compare the builtin one with, for benchmarks only, all over one search space (bench.policies.space).

| policy | parallel | what it would report (its raw pick) |
|---|---|---|
| builtin: the product's researcher, with its own catalogue | asynchronous | the lowest score on the reference class |
| random: random points around the file | asynchronous | the lowest score |
| tpe: Optuna's TPE | asynchronous | the lowest score |
| greedy: keep-if-lower | one experiment at a time | its base |
| greedy-waves: keep the best of a wave if lower | barrier | its base |
| factorial: two-level factorials over a few knobs | barrier | its base |

All start from the same file, see the class of each run, and get the same budget, in which the engine screens, confirms
and judges what they propose. A comparator learns the score of each nominating run, less the difference of the
baseline's means between the two device classes ("class-corrected"): none of them models the hardware, and raw numbers
would mislead all. None reads the simulator, and none has to think: a wave follows the one before at once.

Settings were chosen on the surrogate with the seeds 1001 and 1002, which are never reported, from four candidates each
(tpe: five), by the mean true value of the confirmed incumbent after 8 h on 13 H100 and 3 H200 (greedy: 24 h on one
H100). In the order of the policy's arguments, in thousandths of a bit per byte above 0.970, the chosen one in bold:

| policy | candidates |
|---|---|
| random | (1, 3) 13.9; (2, 3) 13.4; (2, 2) 15.3; **(2, 5) 12.1** |
| tpe | (1, 32) 11.8; (2, 32) 15.0; (3, 32) 14.7; (0.5, 32) 12.7; **(1, 10) 10.6** |
| greedy | (1, 1) 9.5; (0.5, 1) 10.1; **(1, 2) 8.8**; (0.5, 2) 11.5 |
| greedy-waves | (1, 1) 7.0; (0.5, 1) 9.6; **(1, 2) 6.6**; (0.5, 2) 9.9 |
| factorial | **(1, 4) 7.7**; (0.5, 4) 12.9; (1, 3) 10.3; (0.5, 3) 11.1 |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bench.policies.factorial import FactorialWaves
from bench.policies.greedy import GreedyWaves, SequentialGreedy
from bench.policies.policy import Policy
from bench.policies.random_search import RandomSearch
from bench.policies.tpe import TpePolicy
from core.bench import Researcher
from core.registry import researcher_factory
from core.state import SessionState

COMPARATORS: Mapping[str, Callable[[], Policy]] = {
    policy.name: policy for policy in (RandomSearch, TpePolicy, SequentialGreedy, GreedyWaves, FactorialWaves)
}
NAMES = ("builtin", *COMPARATORS)


def make(name: str) -> Researcher:
    """A policy by name; `builtin` is what the installed entry point names. Raises ValueError for an unknown name."""
    if name in COMPARATORS:
        return COMPARATORS[name]()
    if name == "builtin":
        return researcher_factory(name)()
    raise ValueError(f"there is no policy {name!r}; choose from {', '.join(NAMES)}")


def raw_pick(researcher: Researcher, state: SessionState) -> str | None:
    """The experiment that a policy would report as its best, whatever was confirmed; None where nothing scored."""
    if isinstance(researcher, Policy):
        return researcher.pick()
    best = state.ledger.best_observed.get(state.reference_class() or "")
    return best.exp if best is not None else None
