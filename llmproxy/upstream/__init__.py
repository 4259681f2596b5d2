"""The only client side of aiohttp: pools, requests, answers."""
