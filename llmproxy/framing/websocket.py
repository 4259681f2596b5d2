"""The one thing that a WebSocket's handshake computes."""

import base64
import hashlib

# https://www.rfc-editor.org/rfc/rfc6455#section-1.3
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept(key: str) -> str:
    """Give the `sec-websocket-accept` that answers a `sec-websocket-key`."""
    digest = hashlib.sha1((key + GUID).encode(), usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()
