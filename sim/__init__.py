"""The outside world, simulated: a GPU cluster, a Messages API server, a Kubernetes API server. None is built yet."""
