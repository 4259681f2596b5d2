"""The only server side of aiohttp: endpoints, handlers, relay, middleware."""
