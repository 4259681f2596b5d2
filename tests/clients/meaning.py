"""What the scripted vendors say, whatever the dialect: one meaning for each turn of a scenario."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias


class Stop(Enum):
    """Why an answer ends."""

    END = "end"
    LENGTH = "length"
    TOOL = "tool"
    REFUSAL = "refusal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """A tool that is called; `pieces` joined are its arguments, a JSON object."""

    name: str
    pieces: tuple[str, ...]

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True, kw_only=True)
class Says:
    """An answer: `text` and `thinking` in the pieces in which they are streamed."""

    text: tuple[str, ...] = ()
    thinking: tuple[str, ...] = ()
    uses: tuple[Use, ...] = ()
    stop: Stop = Stop.END
    input_tokens: int = 29
    """All tokens of the prompt, cached ones included."""
    cached_tokens: int = 0
    output_tokens: int = 11
    """All tokens of the answer, those of the thinking included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuses:
    """A status and an error's body, in the words that each vendor has."""

    status: int
    retry_after: str | None = None


class Breaks(Enum):
    """What goes wrong on the wire, and at the vendor."""

    OVERLOADED = "refused, with the status that the vendor has for it"
    HANGS = "no byte of an answer"
    STALLS = "some content, then silence"
    DROPS = "some content, then a reset"
    ENDS = "some content, then a tidy end without the events that end an answer"
    ERRS = "some content, then the event that the vendor has for an error"


Turn: TypeAlias = Says | Refuses | Breaks

HELLO = ("Hello", ", wörld", " 🌍", "!\nBye.")
OSLO = Use(name="weather", pieces=('{"city"', ': "Os', 'lo"}'))
ROME = Use(name="weather", pieces=('{"city": ', '"Rome"}'))
COLD = Says(text=("It is 3 degrees", " in Oslo."), input_tokens=57, output_tokens=9)
GREETING = ('{"text": "Hello, wörld 🌍!', '\\nBye."}')
CITY = ('{"city": "Oslo", ', '"degrees": 3}')

SCENARIOS: Mapping[str, tuple[Turn, ...]] = {
    "text": (Says(text=HELLO),),
    "long": (Says(text=("Once upon", " a"), stop=Stop.LENGTH),),
    "cached": (Says(text=HELLO, input_tokens=1500, cached_tokens=1024),),
    "tool": (Says(uses=(OSLO,), stop=Stop.TOOL), COLD),
    "talk-and-tool": (Says(text=("Let me", " see."), uses=(OSLO,), stop=Stop.TOOL), COLD),
    "two-tools": (Says(uses=(OSLO, ROME), stop=Stop.TOOL), COLD),
    "json": (Says(text=CITY),),
    "greeting": (Says(text=GREETING),),
    "thinking": (Says(thinking=("Cold", " there."), text=HELLO),),
    "refusal": (Says(text=("I can't", " help."), stop=Stop.REFUSAL),),
    **{f"status-{status}": (Refuses(status=status),) for status in (400, 403, 404, 409, 413, 422)},
    "status-429": (Refuses(status=429, retry_after="17"),),
    "status-500": (Refuses(status=500),),
    "overloaded": (Breaks.OVERLOADED,),
    "once-500": (Refuses(status=500), Says(text=HELLO)),
    "hangs": (Breaks.HANGS,),
    "stalls": (Breaks.STALLS,),
    "drops": (Breaks.DROPS,),
    "ends": (Breaks.ENDS,),
    "errs": (Breaks.ERRS,),
}
"""The turns of each scenario; the one to come is told by the tool results in the request."""
