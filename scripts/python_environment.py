"""
Make the virtual environment of the project, or bring it up to date: the slow half of `python.sh`.

    python_environment.py ROOT VENV LEVEL KEY

LEVEL is `serve`, `test` or `check`; each has what the one before it has. When all is done, a file
`.llmproxy-LEVEL` in the environment holds KEY, so that the next start need only compare it. Two
calls at once wait for each other. An environment whose making was broken off is made anew.
"""

import fcntl
import os
import subprocess
import sys
import venv
from pathlib import Path

LEVELS = {
    "serve": ("speed",),
    "test": ("speed", "test"),
    "check": ("speed", "test", "check"),
}
PARTS_OF_A_VENV = {"bin", "include", "lib", "lib64", "pyvenv.cfg"}


def main(root: Path, folder: Path, level: str, key: str) -> int:
    """Return 0 once the environment is fit for `level`; else 1, with the reason printed."""
    lock = os.open(root, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)  # released when the process ends, however it ends
    if _stamped(folder, level, key) and _fits(folder):
        return 0
    print(f"llmproxy: preparing {folder.name} (once, up to a minute)", file=sys.stderr)
    broken_off = folder / ".llmproxy-making"
    if (broken_off.exists() or not _fits(folder)) and not _make(folder):
        return 1
    for name in LEVELS:
        (folder / f".llmproxy-{name}").unlink(missing_ok=True)
    broken_off.touch()
    if not _install(root, folder, LEVELS[level]):
        return 1
    broken_off.unlink()
    for name, extras in LEVELS.items():
        if set(extras) <= set(LEVELS[level]):
            (folder / f".llmproxy-{name}").write_text(key + "\n")
    return 0


def _stamped(folder: Path, level: str, key: str) -> bool:
    stamp = folder / f".llmproxy-{level}"
    return stamp.exists() and stamp.read_text().strip() == key.strip()


def _fits(folder: Path) -> bool:
    """Say whether the environment runs, has pip, and is of the Python that runs this."""
    python = folder / "bin" / "python"
    asked = "PYTHON" in os.environ
    wanted = f"sys.version_info[:3] == {tuple(sys.version_info[:3])}" if asked else "True"
    probe = f"import pip, sys; sys.exit(not ((3, 11) <= sys.version_info < (3, 15) and {wanted}))"
    try:
        done = subprocess.run([python, "-c", probe], check=False, capture_output=True)
    except OSError:
        return False
    return done.returncode == 0


def _make(folder: Path) -> bool:
    """Make an empty environment; a folder that is something else is left alone."""
    if folder.exists():
        names = {entry.name for entry in folder.iterdir()}
        if names and "pyvenv.cfg" not in names and not names <= PARTS_OF_A_VENV:
            print(f"llmproxy: {folder} is no virtual environment; remove it", file=sys.stderr)
            return False
    try:
        venv.create(folder, clear=True, symlinks=True, with_pip=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"llmproxy: cannot make {folder}: {error}", file=sys.stderr)
        return False
    return True


def _install(root: Path, folder: Path, extras: tuple[str, ...]) -> bool:
    """Install the project in place; without uvloop where no wheel of it fits."""
    if (failed := _pip(root, folder, extras)) is None:
        return True
    without_speed = tuple(extra for extra in extras if extra != "speed")
    if (failed_again := _pip(root, folder, without_speed)) is None:
        print("llmproxy: uvloop could not be had; asyncio's own loop serves", file=sys.stderr)
        return True
    print(failed, file=sys.stderr)
    if failed_again != failed:
        print(failed_again, file=sys.stderr)
    print("llmproxy: pip could not install the packages (see above)", file=sys.stderr)
    return False


def _pip(root: Path, folder: Path, extras: tuple[str, ...]) -> str | None:
    """Run pip; return None when it succeeded, else what it printed."""
    what = f".[{','.join(extras)}]" if extras else "."
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--editable", what]
    options = ["--quiet", "--disable-pip-version-check", "--only-binary", "uvloop"]
    done = subprocess.run(
        [*command, *options], check=False, cwd=root, capture_output=True, text=True
    )
    return None if done.returncode == 0 else (done.stdout + done.stderr).strip()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]))
