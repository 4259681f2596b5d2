"""
Install what `tests/clients` runs, or bring it up to date: the slow half of `scripts/test-clients`.

    clients_environment.py ROOT

`.clients/vendors` has the vendors' SDKs for Python, and Node; `.clients/frameworks` what builds on
them, and `.clients/older` what needs older ones; `tests/clients/node_modules` what runs on Node. All
versions are pinned. A file in each holds the key of what it was made from.
"""

import subprocess
import sys
import venv
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

STAMP = ".llmproxy-clients"
TRIES = 2  # a network fault heals


def main(root: Path) -> int:
    """Return 0 once all is there; else 1, with the reason printed."""
    clients = root / "tests" / "clients"
    with ThreadPoolExecutor() as pool:
        made = pool.map(
            lambda name: _environment(
                root / ".clients" / name, clients / "requirements" / f"{name}.txt"
            ),
            ("vendors", "frameworks", "older"),
        )
        failed = [told for told in made if told]
    if not failed:
        failed = [told for told in (_node(root / ".clients" / "vendors" / "bin", clients),) if told]
    for told in failed:
        print(told, file=sys.stderr)
    return 1 if failed else 0


def _environment(folder: Path, requirements: Path) -> str | None:
    key = _key(requirements, sys.version)
    if _has(folder, key):
        return None
    print(f"llmproxy: installing {folder.name} (once, up to two minutes)", file=sys.stderr)
    venv.create(folder, clear=True, symlinks=True, with_pip=True)
    told = _run(
        folder / "bin" / "python",
        *("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"),
        *("--only-binary", ":all:", "--requirement", requirements),
    )
    return told or _stamp(folder, key)


def _node(programs: Path, clients: Path) -> str | None:
    folder = clients / "node_modules"
    key = _key(clients / "package-lock.json", "")
    if _has(folder, key):
        return None
    told = _run(
        *(programs / "npm", "ci", "--prefix", clients),
        *("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"),
    )
    return told or _stamp(folder, key)


def _key(made_from: Path, more: str) -> str:
    return sha256(made_from.read_bytes() + more.encode()).hexdigest()


def _has(folder: Path, key: str) -> bool:
    stamp = folder / STAMP
    return stamp.exists() and stamp.read_text() == key


def _stamp(folder: Path, key: str) -> None:
    (folder / STAMP).write_text(key)


def _run(*command: str | Path) -> str | None:
    """Run it, and once more if it fails; return None when it succeeded, else what it printed."""
    told = ""
    for _ in range(TRIES):
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode == 0:
            return None
        told = (done.stdout + done.stderr).strip()
    return told


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
