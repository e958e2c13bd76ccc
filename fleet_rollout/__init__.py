"""Ship one Git commit to many Kubernetes clusters, each judging it with its own metrics."""
