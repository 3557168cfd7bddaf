"""Pure projections: from the session's state to what a widget shows."""
