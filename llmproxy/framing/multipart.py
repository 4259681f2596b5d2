"""
A form's parts as they come: where one field's value stands, nothing else of it.

After https://www.rfc-editor.org/rfc/rfc7578 and https://www.rfc-editor.org/rfc/rfc2046#section-5.1.
A part's content is never looked at but for the line that ends it, so that a file costs one search
for each read.
"""

import re

from ..core.errors import InvalidRequest

LONGEST = 16 * 1024  # bytes of a part's head, and of the value that is looked for
_BOUNDARY = re.compile(
    r"""multipart/form-data\s*;(?:.*;)?\s*boundary=(?:"([^"]+)"|([^\s;"]+))""", re.IGNORECASE
)
_BOUNDARIES = re.compile(r"boundary\s*=", re.IGNORECASE)
_NAME = re.compile(
    rb"""(?:\A|[\r\n])[ \t]*content-disposition\s*:[^\r\n]*?;\s*name\s*=\s*(?:"([^"\r\n]*)"|([^\s;"]+))""",
    re.IGNORECASE,
)


def boundary_of(content_type: str) -> bytes | None:
    """
    Give the boundary that a form's content type names; None where it is no form.

    Raises InvalidRequest for two: whoever reads the form may take either.
    """
    found = _BOUNDARY.match(content_type)
    if found is None:
        return None
    if len(_BOUNDARIES.findall(content_type)) > 1:
        raise InvalidRequest("the content type of the form names more than one boundary")
    return (found[1] or found[2]).encode("utf-8", "surrogateescape")


# RFC 7578 forbids it, and some that read forms take it.
_EXTENDED = re.compile(rb";\s*name\s*\*", re.IGNORECASE)
# What readers of forms take apart in different ways: an escape in a name, a line without its CR.
_AMBIGUOUS = re.compile(rb"""(?<!\r)\n|;\s*name\s*=\s*"[^"\\]*\\""", re.IGNORECASE)


class FieldFinder:
    """
    Finds the value of the field `name`; `span` is where it stands, counted from the body's start.

    Feed it all of the body, or as much as is of interest. It raises InvalidRequest where the field
    comes a second time: whoever reads the form may take either.
    """

    def __init__(self, boundary: bytes, name: str) -> None:
        self.span: tuple[int, int] | None = None
        self._mark = b"\r\n--" + boundary
        self._name = name
        self._held = b"\r\n"  # the first mark needs no line before it
        self._at = -2  # where `_held` begins
        self._done = 0  # how much of it has been looked at
        self._step = self._content
        self._value_at: int | None = None
        self._seen = False

    def feed(self, data: bytes) -> None:
        """Take what follows."""
        self._held += data
        while self._step():
            pass
        self._held = self._held[self._done :]
        self._at += self._done
        self._done = 0

    def _content(self) -> bool:
        """Pass over content; say whether a mark has ended it."""
        found = self._held.find(self._mark, self._done)
        if found < 0:
            if self._value_at is None:
                self._done = max(self._done, len(self._held) - len(self._mark))
            else:
                self._check_length(self._name)
            return False
        if self._value_at is not None:
            self.span = self._value_at, max(self._value_at, self._at + found)
            self._value_at = None
        self._done = found + len(self._mark)
        self._step = self._head
        return True

    def _head(self) -> bool:
        """Read a part's head; say whether it was there whole."""
        if self._held.startswith(b"--", self._done):
            self._step = self._epilogue
            return True
        end = self._held.find(b"\r\n\r\n", self._done)
        if end < 0:
            self._check_length("the head of one of its parts")
            return False
        head = self._held[self._done : end]
        if _EXTENDED.search(head):
            raise InvalidRequest("the form: a part is named by name*, which forms may not have")
        if _AMBIGUOUS.search(head):
            raise InvalidRequest("the form: the head of one of its parts can be read in two ways")
        named = _NAME.search(head)
        if named is not None and self._name.encode() in named.groups():
            if self._seen:
                raise InvalidRequest(f"{self._name} is given twice", param=self._name)
            self._seen = True
            self._value_at = self._at + end + 4
        self._done = end + 2  # some take a mark that follows the head at once
        self._step = self._content
        return True

    def _epilogue(self) -> bool:
        self._done = len(self._held)
        return False

    def _check_length(self, what: str) -> None:
        if len(self._held) - self._done > LONGEST:
            raise InvalidRequest(f"the form: {what} has over {LONGEST} bytes")
