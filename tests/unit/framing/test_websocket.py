"""What answers a WebSocket's handshake."""

from llmproxy.framing.websocket import accept


def test_the_answer_is_that_of_the_standard() -> None:
    # https://www.rfc-editor.org/rfc/rfc6455#section-1.3
    assert accept("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
