"""A process that stands still, as on a machine that is swapped out or has too much to do."""

import time


def stand_still(seconds: float) -> None:
    """Stop this process, and with it its event loop, for so long."""
    time.sleep(seconds)
