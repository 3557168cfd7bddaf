"""Pictures made of character cells: pure functions from numbers to grids, no terminal, no Textual."""
