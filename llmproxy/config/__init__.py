"""TOML and environment to frozen dataclasses, without I/O."""
