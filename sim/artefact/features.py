"""Recognise structural changes by what the code does, and say which names each of them added or removed."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import msgspec

from sim.artefact.syntax import Units, called, calls_in, locals_of, mentions, names_in

VALUE_NAMES: Final = frozenset({"value_gate_HD", "value_BTD", "value_embeds", "mixes_values", "mixing", "gate_BTH1"})
NORMUON_NAMES: Final = frozenset({"variance_NR1", "size_N11", "beta2", "MUON_BETA2"})
SHIFTS: Final = frozenset({"pad", "roll", "cat", "concat"})
ACTIVATIONS: Final = frozenset({"relu", "gelu", "silu"})
NGRAMS: Final = {2: "bigram", 3: "trigram"}


class Feature(msgspec.Struct, frozen=True):
    """A recognised change: its name, what to take out on both sides before comparing, and how to rewrite them.

    `claims` are definitions that it accounts for as a whole, `parameters` what it adds to the model, which an
    optimizer must own. `amount` says how much of it there is: a table's rows, a count of heads, a rate.
    """

    name: str
    names: frozenset[str] = frozenset()
    claims: frozenset[str] = frozenset()
    rewrites: tuple[type[ast.NodeTransformer], ...] = ()
    parameters: tuple[str, ...] = ()
    amount: ast.expr | None = None


Detector = Callable[[Units, Units], Iterator[Feature]]


def find_features(new: Units, old: Units) -> list[Feature]:
    """Return the changes that are recognised in a file's definitions against the shipped ones, in a fixed order."""
    return [feature for detector in _DETECTORS for feature in detector(new, old)]


def _no_values(new: Units, _old: Units) -> Iterator[Feature]:
    made = new.get("GPT.__init__")
    looked_up = new.get("GPT.forward")
    if made is not None and looked_up is not None and "value_embeds" not in {*names_in(made), *names_in(looked_up)}:
        yield Feature("no-values", names=VALUE_NAMES)


def _plain_muon(new: Units, _old: Units) -> Iterator[Feature]:
    step = new.get("muon_step")
    if step is not None and "rsqrt" not in calls_in(step) and not any("variance" in name for name in names_in(step)):
        yield Feature("plain-muon", names=NORMUON_NAMES)


class _Uncap(ast.NodeTransformer):
    """SOFTCAP * tanh(x / SOFTCAP) becomes x."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        match node:
            case ast.BinOp(op=ast.Mult(), right=ast.Call(args=[ast.BinOp(left=inner, op=ast.Div())]) as call):
                if called(call) == "tanh":
                    return inner
        return self.generic_visit(node)


def _no_softcap(new: Units, _old: Units) -> Iterator[Feature]:
    forward = new.get("GPT.forward")
    if forward is not None and "tanh" not in calls_in(forward) and "SOFTCAP" not in names_in(forward):
        yield Feature("no-softcap", rewrites=(_Uncap,))


class _Tie(ast.NodeTransformer):
    """The embedding's table in the place of the head becomes the head."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if called(node) == "linear" and len(node.args) == 2 and ast.unparse(node.args[1]) == "self.embed.weight":
            head = ast.Attribute(value=ast.Name(id="self", ctx=ast.Load()), attr="head_VD", ctx=ast.Load())
            node.args[1] = head
        return node


def _weight_tying(new: Units, _old: Units) -> Iterator[Feature]:
    made, forward = new.get("GPT.__init__"), new.get("GPT.forward")
    if made is None or forward is None:
        return
    heads = [ast.unparse(value) for target, value in _attributes(made) if target == "head_VD"]
    used = any(
        called(node) == "linear" and "self.embed.weight" in map(ast.unparse, node.args)
        for node in ast.walk(forward)
        if isinstance(node, ast.Call)
    )
    if (used and not heads) or heads == ["self.embed.weight"]:
        yield Feature("weight-tying", names=frozenset({"head_VD"}), rewrites=(_Tie,))


def _tables(new: Units, old: Units) -> Iterator[Feature]:
    """Tables of hashed n-grams: an embedding whose index mixes a token with those before it."""
    made, forward = new.get("GPT.__init__"), new.get("GPT.forward")
    if made is None or forward is None:
        return
    known = set(names_in(old["GPT.__init__"])) | set(names_in(old["GPT.forward"]))
    for attribute, value in _attributes(made):
        if attribute in known or called(value) != "Embedding" or not isinstance(value, ast.Call):
            continue
        uses = [
            node.args[0]
            for node in ast.walk(forward)
            if isinstance(node, ast.Call) and called(node) == attribute and node.args
        ]
        orders = {_ngram_order(index, forward) for index in uses}
        if len(orders) == 1 and (name := NGRAMS.get(orders.pop())) and value.args:
            added = frozenset({attribute, *_added_names([made, forward], attribute, known)})
            yield Feature(name, names=added, parameters=(f"{attribute}.weight",), amount=value.args[0])


def _ngram_order(index: ast.expr, forward: ast.AST) -> int:
    """Count the different tokens that an index is made of; 0 where it is not made of shifted tokens."""
    bound = locals_of(forward)
    leaves: set[str] = set()
    shifted = False
    pending, seen = [index], set()
    while pending:
        node = pending.pop()
        match node:
            case ast.BinOp(op=ast.Mod(), left=left):
                pending.append(left)
            case ast.BinOp(left=left, right=right):
                pending += [left, right]
            case ast.Call(args=[left, right]) if called(node) in {"bitwise_xor", "remainder", "add"}:
                pending += [left] if called(node) == "remainder" else [left, right]
            case ast.Name(id=name) if name in bound and name not in seen and _mixes(bound[name]):
                seen.add(name)
                pending += bound[name]
            case ast.Constant():
                pass
            case ast.Name(id=name) if name.isupper():
                pass
            case _:
                leaves.add(ast.unparse(node))
                shifted = shifted or _is_shifted(node, bound)
    return len(leaves) if shifted else 0


def _mixes(values: list[ast.expr]) -> bool:
    return any(isinstance(value, ast.BinOp) or called(value) in {"bitwise_xor", "remainder"} for value in values)


def _is_shifted(node: ast.expr, bound: Mapping[str, list[ast.expr]]) -> bool:
    parts = [node, *(value for name in names_in(node) for value in bound.get(name, []))]
    return any(call in SHIFTS for part in parts for call in calls_in(part))


def _smear(new: Units, old: Units) -> Iterator[Feature]:
    """A learned share of the embedding before: a parameter times a shifted stream."""
    made, forward = new.get("GPT.__init__"), new.get("GPT.forward")
    if made is None or forward is None:
        return
    known = set(names_in(old["GPT.__init__"])) | set(names_in(old["GPT.forward"]))
    bound = locals_of(forward)
    for attribute, value in _attributes(made):
        if attribute in known or called(value) != "Parameter":
            continue
        products = [
            node
            for node in ast.walk(forward)
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult) and mentions(node, frozenset({attribute}))
        ]
        if products and all(_is_shifted(node, bound) for node in products):
            added = frozenset({attribute, *_added_names([made, forward], attribute, known)})
            yield Feature("smear", names=added, parameters=(attribute,))


def _added_names(functions: list[ast.AST], attribute: str, known: set[str]) -> set[str]:
    """Return the new local names and constants that lead to the uses of a new attribute."""
    added: set[str] = set()
    pending = {attribute}
    while pending:
        name = pending.pop()
        for function in functions:
            bound = locals_of(function)
            sources = [*bound.get(name, ())]
            if name == attribute:
                sources += [node for node in ast.walk(function) if _uses(node, attribute)]
            for source in sources:
                for other in names_in(source):
                    if other not in known and other not in added and (other in bound or other.isupper()):
                        added.add(other)
                        pending.add(other)
    return added


def _uses(node: ast.AST, attribute: str) -> bool:
    # The smallest expression around it: its call, or the product that it is a factor of; and where it is made.
    if isinstance(node, ast.Assign):
        return any(isinstance(target, ast.Attribute) and target.attr == attribute for target in node.targets)
    return called(node) == attribute or (
        isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult) and mentions(node, frozenset({attribute}))
    )


def _attributes(init: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    for node in ast.walk(init):
        match node:
            case ast.Assign(targets=[ast.Attribute(value=ast.Name(id="self"), attr=name)], value=value):
                yield name, value


def _gated_mlp(new: Units, _old: Units) -> Iterator[Feature]:
    forward = new.get("MLP.forward")
    if forward is None:
        return
    for node in ast.walk(forward):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            gates = {*calls_in(node.left)} ^ {*calls_in(node.right)}
            name = "swiglu" if "silu" in gates else "geglu" if "gelu" in gates else ""
            if name:
                yield Feature(name, claims=frozenset(unit for unit in new if unit.partition(".")[0] == "MLP"))
                return


class _Activate(ast.NodeTransformer):
    """Whatever function stands between the two matrices becomes `activation`."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        match node:
            case ast.Call(func=ast.Attribute(value=inner, attr="square"), args=[]) if _is_activation(inner):
                return inner
            case ast.Call(args=[argument, *_]) if called(node) in ACTIVATIONS:
                return ast.Call(func=ast.Name(id="activation", ctx=ast.Load()), args=[argument], keywords=[])
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        is_square = isinstance(node.op, ast.Pow) and isinstance(node.right, ast.Constant) and node.right.value == 2
        return node.left if is_square and _is_activation(node.left) else node


def _is_activation(node: ast.AST) -> bool:
    return called(node) in {*ACTIVATIONS, "activation"}


def _activation(new: Units, _old: Units) -> Iterator[Feature]:
    forward = new.get("MLP.forward")
    if forward is None:
        return
    calls = set(calls_in(forward))
    squared = "square" in calls or any(isinstance(node, ast.Pow) for node in ast.walk(forward))
    found = sorted(calls & ACTIVATIONS)
    gated = any(True for _ in _gated_mlp(new, _old))
    if len(found) == 1 and not gated and (found != ["relu"] or not squared) and not (squared and found != ["relu"]):
        yield Feature(found[0], rewrites=(_Activate,))


class _Unnorm(ast.NodeTransformer):
    """norm(x) becomes x."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        return node.args[0] if called(node) == "norm" and len(node.args) == 1 else node


def _qk_norm(new: Units, _old: Units) -> Iterator[Feature]:
    forward = new.get("Attention.forward")
    if not isinstance(forward, ast.FunctionDef):
        return
    order = [call for statement in forward.body for call in calls_in(statement) if call in {"norm", "roll"}]
    if "norm" not in order:
        yield Feature("no-qk-norm", rewrites=(_UnnormAttention,))
    elif "roll" in order and order.index("norm") < order.index("roll") and order.count("norm") in {1, 2}:
        yield Feature("qk-norm-before-rope", rewrites=(_UnnormAttention,))


class _UnnormAttention(_Unnorm):
    """norm(x) becomes x, within the attention's own forward."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self.generic_visit(node) if mentions(node, frozenset({"rope"})) else node


def _parallel_blocks(new: Units, _old: Units) -> Iterator[Feature]:
    forward = new.get("Block.forward")
    if not isinstance(forward, ast.FunctionDef) or set(calls_in(forward)) != {"attention", "mlp", "norm"}:
        return
    if len(forward.args.args) < 2:
        return
    bound = locals_of(forward)
    stream = forward.args.args[1].arg
    attended = {name for name, values in bound.items() if any("attention" in calls_in(value) for value in values)}
    for node in ast.walk(forward):
        if called(node) == "mlp" and isinstance(node, ast.Call) and len(node.args) == 1:
            inputs = {name for name in names_in(node.args[0]) if name in bound or name == stream}
            inputs |= {other for name in inputs for value in bound.get(name, ()) for other in names_in(value)}
            if not inputs & attended and "attention" not in calls_in(node.args[0]):
                yield Feature("parallel-blocks", claims=frozenset({"Block.forward"}))


class _Undrop(ast.NodeTransformer):
    """dropout(x) becomes x."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        return node.args[0] if called(node) in {"dropout", "drop"} and node.args else node


def _dropout(new: Units, _old: Units) -> Iterator[Feature]:
    rates = [
        rate
        for unit in new.values()
        for node in ast.walk(unit)
        if isinstance(node, ast.Call) and called(node) in {"dropout", "Dropout"}
        for rate in _rates(node)
    ]
    if rates:
        names = frozenset({"dropout", "drop", "Dropout", "DROPOUT"})
        yield Feature("dropout", names=names, rewrites=(_Undrop,), amount=rates[0])


def _rates(call: ast.Call) -> Iterator[ast.expr]:
    yield from (keyword.value for keyword in call.keywords if keyword.arg == "p")
    yield from call.args[:1] if called(call) == "Dropout" else call.args[1:2]


def _label_smoothing(new: Units, _old: Units) -> Iterator[Feature]:
    loss = new.get("Trainer.loss")
    if loss is None:
        return
    for node in ast.walk(loss):
        if isinstance(node, ast.keyword) and node.arg == "label_smoothing":
            names = frozenset({"label_smoothing", "LABEL_SMOOTHING"})
            yield Feature("label-smoothing", names=names, amount=node.value)
            return


def _shared_heads(new: Units, _old: Units) -> Iterator[Feature]:
    """Fewer heads of keys and values than of queries."""
    made = new.get("Attention.__init__")
    if made is None:
        return
    counts = [value for name, value in _attributes(made) if "kv" in name.lower() and "heads" in name.lower()]
    counts += [ast.Name(id=name) for name in names_in(made) if "KV" in name and "HEADS" in name and name.isupper()]
    if counts:
        attention = ("__init__", "forward", "attend_flash", "attend_masked")
        yield Feature("gqa", claims=frozenset(f"Attention.{method}" for method in attention), amount=counts[0])


_DETECTORS: Final[tuple[Detector, ...]] = (
    _no_values, _plain_muon, _no_softcap, _weight_tying, _tables, _smear, _gated_mlp, _activation, _qk_norm,
    _parallel_blocks, _dropout, _label_smoothing, _shared_heads,
)  # fmt: skip
