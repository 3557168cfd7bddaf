"""What a recognised structure costs: parameters, and multiplications and additions a token, from its shape.

Counts as the shipped file and its catalogue of edits do, exactly; the meta device says the same (a test compares).
Attention counts every position of its window, as published throughput figures do (12 * width * window a layer and
token, forward and backward); a parameter in a product counts 6 (2 forward, 4 backward).
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from typing import Any

import msgspec

from sim.artefact import syntax
from sim.artefact.evaluate import UnreadableError, evaluate
from sim.artefact.features import Feature
from sim.artefact.structure import Structure
from sim.model import Cost


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """A model's sizes, as far as its cost goes; `attended` sums the positions that its layers see."""

    depth: int
    width: int
    head_dim: int
    attended: int
    vocab_size: int


def structural_cost(structure: Structure, shape: Shape, constants: Mapping[str, Any]) -> Cost:
    """Return the cost of a model with these features.

    Raises UnreadableError where a feature has sizes that cannot be told from the file's text.
    """
    width, depth, names = shape.width, shape.depth, structure.names
    n_heads = width // shape.head_dim
    mixing = 0 if "no-values" in names else len(range((depth - 1) % 2, depth, 2))
    head = shape.vocab_size * width
    kv_share = kv_heads(structure, constants, n_heads) / n_heads
    mlp = sum(math.prod(shape) for shape in mlp_shapes(structure, width, constants))
    per_layer = round((2 + 2 * kv_share) * width * width) + mlp
    multiplied = depth * per_layer + mixing * n_heads * width + head
    looked_up = (mixing + ("weight-tying" not in names)) * shape.vocab_size * width
    for feature in structure.features:
        if feature.name in {"bigram", "trigram"}:
            looked_up += int(amount_of(feature, constants)) * width
    scalars = 2 * depth + (width if "smear" in names else 0)
    flops_per_token = 6.0 * multiplied + 12.0 * width * shape.attended
    return Cost(params=multiplied + looked_up + scalars, flops_per_token=flops_per_token)


def amount_of(feature: Feature, constants: Mapping[str, Any]) -> float:
    """Return how much of a feature there is: a table's rows, a count of heads, a rate.

    Raises UnreadableError where the file's text does not tell.
    """
    if feature.amount is None:
        raise UnreadableError(f"has a {feature.name} of unknown size")
    plain = ast.parse(ast.unparse(feature.amount).replace("self.", ""), mode="eval").body
    found = evaluate(plain, constants)
    if not isinstance(found, int | float):
        raise UnreadableError(f"has a {feature.name} of size {found!r}")
    return found


def kv_heads(structure: Structure, constants: Mapping[str, Any], n_heads: int) -> int:
    """Return the heads of keys and values. Raises UnreadableError where the file's text does not tell."""
    for feature in structure.features:
        if feature.name == "gqa":
            return int(amount_of(feature, {**constants, "n_heads": n_heads}))
    return n_heads


def mlp_shapes(structure: Structure, width: int, constants: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return the shapes of the weights that the __init__ of the MLP asks for, as it would compute them.

    Raises UnreadableError for an MLP of an unknown form, and what the file's own arithmetic raises.
    """
    init = structure.units.get("MLP.__init__")
    if not isinstance(init, ast.FunctionDef) or len(init.args.args) < 2:
        raise UnreadableError("has an MLP of an unknown form")
    names: dict[str, Any] = {**constants, init.args.args[1].arg: width}
    shapes = []
    for statement in init.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                names[name] = evaluate(value, names)
            case ast.Assign(targets=[ast.Attribute()], value=ast.Call() as call):
                shapes.append(tuple(evaluate(size, names) for size in _sizes(call)))
    return shapes


def _sizes(call: ast.Call) -> list[ast.expr]:
    match syntax.called(call), call.args:
        case "matrix", sizes:
            return sizes
        case "Parameter", [ast.Call(args=sizes), *_]:
            return sizes
        case "Linear", sizes if any(keyword.arg == "bias" for keyword in call.keywords):
            return sizes
    raise UnreadableError(f"has an MLP with {ast.unparse(call)[:60]}")
