"""A person's keys in place of the table's: which there are, and that no two actions of a place share one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from textual.keys import Keys, _character_to_key

from tui.bindings import KEYS, TITLES, Key, Where
from tui.config import ConfigError

_TOGETHER: Final[frozenset[Where]] = frozenset({"terminal", "everywhere", "time"})
"""Places whose keys hold on all screens of a session: there they are one."""

_NAMES: Final = frozenset(key.value for key in Keys if not key.value.startswith("<"))
_MODIFIERS: Final = frozenset({"ctrl", "alt", "shift", "super", "hyper", "meta"})


def checked(keys: Mapping[str, str], path: Path) -> dict[str, str]:
    """The keymap in Textual's names of keys. Raises ConfigError, which names the file and the action."""
    by_id = {key.id: key for key in KEYS}
    keymap = {}
    for name, said in keys.items():
        if name not in by_id:
            near = ", ".join(sorted(known for known in by_id if known.split(".")[-1] == name.split(".")[-1])[:4])
            hint = f"did you mean {near}?" if near else "'autoresearch-tui config --keys' lists all"
            raise ConfigError(f"{path}: [keys] has no action {name!r}; {hint}")
        keymap[name] = ",".join(_key_named(one.strip(), name, path) for one in _split(said))
    _check_clashes(keymap, path)
    return keymap


def _split(said: str) -> list[str]:
    """Keys parted by commas; a lone comma is itself a key."""
    return [said] if said == "," else said.split(",")


def _key_named(said: str, name: str, path: Path) -> str:
    # The plus that parts modifiers from their key is a key itself.
    before, _, key = (
        ("", "", said) if len(said) == 1 else (said[:-2], "", "+") if said[-2:] == "++" else said.rpartition("+")
    )
    modifiers = before.split("+") if before else []
    if len(key) == 1 and key.isprintable() and key != " ":
        key = _character_to_key(key)
    elif not _is_known(key):
        raise ConfigError(
            f"{path}: [keys] {name} = {said!r} is no key; write a character, or a name such as space, enter, f5, ctrl+d"
        )
    if unknown := [modifier for modifier in modifiers if modifier not in _MODIFIERS]:
        raise ConfigError(f"{path}: [keys] {name} = {said!r}: there is no modifier {unknown[0]!r}")
    return "+".join([*modifiers, key])


def _is_known(key: str) -> bool:
    if key in _NAMES or re.fullmatch(r"f([1-9]|1\d|2[0-4])", key):
        return True
    if not re.fullmatch(r"[a-z][a-z_]+", key):
        return False
    try:
        unicodedata.lookup(key.replace("_", " "))
    except KeyError:
        return any(key in bound.keys.split(",") for bound in KEYS)  # some of Textual's names are its own
    return True


def _check_clashes(keymap: Mapping[str, str], path: Path) -> None:
    taken: dict[tuple[str, str], Key] = {}
    for key in KEYS:
        place = "everywhere" if key.where in _TOGETHER else key.where
        for one in keymap.get(key.id, key.keys).split(","):
            other = taken.setdefault((place, one), key)
            if other is not key:
                mine, theirs = (key, other) if key.id in keymap else (other, key)
                raise ConfigError(
                    f"{path}: [keys] {mine.id} = {one!r} is the key of {theirs.id} too ({TITLES[theirs.where]}: "
                    f"{theirs.says}); give one of them another"
                )
