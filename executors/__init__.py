"""Where runs happen: the local executor, its devices, and the launcher (supervisor, sandbox) of one attempt."""
