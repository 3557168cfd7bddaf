"""The session: events, journal, state, engine, statistics, researchers. No screen, no cluster, no torch."""
