"""The engine: one detached process per session that decides, records, and only then acts."""
