"""What an operator sees of a running Acme: logs, and metrics for Prometheus."""
