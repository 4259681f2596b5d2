"""One request to a gateway, with the standard library alone: the command stays quick and small."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.message import Message
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import urlsplit


class Unreachable(Exception):
    """No answer, or it broke off; the text says why."""


class Answer:
    """An answer whose body is read while the request is open."""

    def __init__(self, response: HTTPResponse, url: str) -> None:
        self.status = response.status
        self.headers: Message = response.headers
        self._response = response
        self._url = url

    def read(self) -> bytes:
        """Give the whole body; raises Unreachable."""
        return b"".join(self.lines())

    def lines(self) -> Iterator[bytes]:
        """Give the body's lines as they come, ends included; raises Unreachable."""
        while True:
            with _reasons(self._url):
                line = self._response.readline()
            if not line:
                return
            yield line


@contextmanager
def request(
    method: str,
    url: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float,
) -> Iterator[Answer]:
    """Give the answer to a request; `timeout` is for each wait, in seconds. Raises Unreachable."""
    connection = None
    try:
        with _reasons(url):
            connection = _connection(url, timeout)
            parts = urlsplit(url)
            path = parts.path or "/"
            target = f"{path}?{parts.query}" if parts.query else path
            connection.request(method, target, body, dict(headers or {}))
            response = connection.getresponse()
        yield Answer(response, url)
    finally:
        if connection is not None:
            connection.close()


def _connection(url: str, timeout: float) -> HTTPConnection:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Unreachable(f"{url} is no http:// or https:// URL")
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    return kind(parts.hostname, parts.port, timeout=timeout)


@contextmanager
def _reasons(url: str) -> Iterator[None]:
    """Turn what the standard library raises into Unreachable."""
    try:
        yield
    except TimeoutError as error:
        raise Unreachable(f"{url} did not answer in time") from error
    except OSError as error:
        raise Unreachable(f"{url}: {error.strerror or error}") from error
    except HTTPException as error:
        raise Unreachable(f"{url}: the answer is no HTTP, or broke off") from error
    except ValueError as error:  # its text may hold the key
        raise Unreachable(f"{url}: the URL or the key holds what cannot be sent") from error
