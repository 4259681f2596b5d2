"""The bench: what the gateway costs, next to nginx and to a plain proxy, measured in one run."""
