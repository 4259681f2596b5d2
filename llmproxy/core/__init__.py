"""The facts of a request; imports nothing of ours and does nothing."""
