"""The simulated cluster: what becomes of an attempt is a function of the session's seed and of that attempt alone."""
