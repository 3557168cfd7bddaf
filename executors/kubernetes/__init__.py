"""The Kubernetes executor: one attempt is one Job with one Pod on one GPU of a pinned product."""
