"""Whom we call: address, authentication, how their answers are judged; without I/O."""
