"""What the workers of one gateway on one host have in common."""
