"""Observers: they read the exchange and never change it."""
