"""What a session's screen can do, by kind of action; `tui.app` puts the kinds together."""
