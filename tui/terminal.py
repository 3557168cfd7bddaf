"""Settings of Textual that it reads when it is imported: import this module before anything of textual."""

from __future__ import annotations

import os
from typing import Final

OVER_SSH: Final = "SSH_CONNECTION" in os.environ

TICKS_HZ: Final = 2.0 if OVER_SSH else 4.0
"""How often the screen looks for news. Over SSH each look costs the link."""

for _name, _value in {
    # No animation anywhere: each of its frames repaints whole lines.
    "TEXTUAL_ANIMATIONS": "none",
    "TEXTUAL_SMOOTH_SCROLL": "0",
    "TEXTUAL_FPS": "15" if OVER_SSH else "30",
}.items():
    os.environ.setdefault(_name, _value)
