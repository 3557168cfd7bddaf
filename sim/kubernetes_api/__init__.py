"""A simulated Kubernetes API server and the cluster behind it."""
