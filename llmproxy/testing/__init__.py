"""Providers that misbehave on purpose, for the tests of whoever calls one."""
