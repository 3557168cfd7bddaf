"""The researchers: who proposes what to try next."""
