"""Importing does nothing; embedding sets nothing for the whole process."""

import subprocess
import sys

QUIET = """
import gc, logging, signal, socket, sys, threading
before = (gc.get_threshold(), gc.isenabled(), list(logging.root.handlers), logging.root.level,
          signal.getsignal(signal.SIGTERM), threading.active_count())
def refused(*args, **kwargs): raise AssertionError("a socket")
socket.socket.connect = refused
import pkgutil, importlib
import llmproxy
for module in pkgutil.walk_packages(llmproxy.__path__, "llmproxy."):
    if module.name != "llmproxy.__main__":
        importlib.import_module(module.name)
from llmproxy.app import create_app
from llmproxy.config.load import parse
create_app(parse('[providers.mock]\\nkind = "mock"', {}, read=None, source="here"))
after = (gc.get_threshold(), gc.isenabled(), list(logging.root.handlers), logging.root.level,
         signal.getsignal(signal.SIGTERM), threading.active_count())
assert before == after, (before, after)
"""


def test_importing_everything_and_making_an_app_changes_nothing_in_the_process() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", QUIET], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
