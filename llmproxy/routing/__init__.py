"""From a model's name to the targets to try, without I/O."""
