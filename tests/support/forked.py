"""Processes that share this one's memory: they are forked, run one function and end."""

import os
import warnings
from collections.abc import Callable


def forked(run: Callable[[], object]) -> int:
    """Run it in a child that ends at once afterwards, with 1 where it raises; gives its id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: the child starts none
        child = os.fork()
    if child:
        return child
    try:
        run()
    except BaseException:  # noqa: BLE001  # a child must not go on with the tests
        os._exit(1)
    os._exit(0)


def ended(child: int) -> int:
    """Give the exit code once it has ended; below 0 the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
