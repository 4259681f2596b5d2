"""Layers over one send: retry, limit, breaker, attempt; and failover across targets."""
