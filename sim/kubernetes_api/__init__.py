"""A simulated Kubernetes cluster: an API server on a loopback socket, and the controllers, nodes and pods behind it."""
