"""The themes of every screen: dark, light, of high contrast, and the terminal's own sixteen colours."""

from __future__ import annotations

from typing import Final

from textual.theme import BUILTIN_THEMES, Theme

_DARK: Final = Theme(
    name="dark",
    primary="#0178D4",
    secondary="#004578",
    accent="#FFA62B",
    warning="#FFA62B",
    error="#BA3C5B",
    success="#4EBF71",
    foreground="#E0E0E0",
    background="#121212",
    surface="#1E1E1E",
    variables={
        "border": "#FFA62B",
        "border-blurred": "#4A4A4A",
        "text-muted": "auto 70%",
        "block-cursor-background": "#0067B8",
        "block-cursor-foreground": "#FFFFFF",
        "footer-key-foreground": "#FFA62B",
    },
)
_LIGHT: Final = Theme(
    name="light",
    primary="#004578",
    secondary="#005FA3",
    accent="#8A4B00",
    warning="#8A4B00",
    error="#A3123A",
    success="#00664B",
    foreground="#1A1A1A",
    background="#FFFFFF",
    surface="#F4F4F4",
    panel="#EAEAEA",
    dark=False,
    variables={
        "border": "#8A4B00",
        "border-blurred": "#B4B4B4",
        "text-muted": "auto 75%",
        "block-cursor-background": "#004578",
        "block-cursor-foreground": "#FFFFFF",
        "footer-key-foreground": "#8A4B00",
    },
)
_CONTRAST: Final = Theme(
    name="contrast",
    primary="#FFFF00",
    secondary="#00FFFF",
    accent="#FFFF00",
    warning="#FFD24A",
    error="#FF9A9A",
    success="#7CFF7C",
    foreground="#FFFFFF",
    background="#000000",
    surface="#000000",
    panel="#000000",
    boost="#000000",
    text_alpha=1.0,
    variables={
        "border": "#FFFF00",
        "border-blurred": "#A0A0A0",
        "text": "#FFFFFF",
        "text-muted": "#E0E0E0",
        "text-disabled": "#B8B8B8",
        "block-cursor-background": "#FFFF00",
        "block-cursor-foreground": "#000000",
        "block-cursor-blurred-background": "#FFFFFF",
        "block-cursor-blurred-foreground": "#000000",
        "input-cursor-background": "#FFFFFF",
        "input-cursor-foreground": "#000000",
        "input-selection-background": "#FFFF00",
        "input-selection-foreground": "#000000",
        "footer-key-foreground": "#FFFF00",
        "footer-foreground": "#FFFFFF",
        "footer-background": "#000000",
        "footer-description-foreground": "#FFFFFF",
        "scrollbar": "#FFFFFF",
        "scrollbar-hover": "#FFFF00",
        "scrollbar-active": "#FFFF00",
        "scrollbar-background": "#303030",
        "scrollbar-background-hover": "#303030",
        "scrollbar-background-active": "#303030",
    },
)
_ANSI: Final = Theme(
    name="ansi",
    ansi=True,
    primary="ansi_blue",
    secondary="ansi_cyan",
    warning="ansi_yellow",
    error="ansi_red",
    success="ansi_green",
    accent="ansi_yellow",
    foreground="ansi_default",
    background="ansi_default",
    surface="ansi_default",
    panel="ansi_default",
    boost="ansi_default",
    variables=BUILTIN_THEMES["ansi-dark"].variables
    | {
        "border": "ansi_yellow",
        "border-blurred": "ansi_default",
        "block-cursor-background": "ansi_cyan",
        "block-cursor-foreground": "ansi_black",
        "block-cursor-blurred-background": "ansi_white",
        "block-cursor-blurred-foreground": "ansi_black",
        "footer-key-foreground": "ansi_yellow",
    },
)
THEMES: Final = (_DARK, _LIGHT, _CONTRAST, _ANSI)
"""In the order in which a key goes through them."""
