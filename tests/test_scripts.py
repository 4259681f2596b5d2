"""`scripts/serve` and `scripts/test`: which Python they pick, and when they make an environment."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ("basename", "cat", "cksum", "dirname")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone in a folder whose name has a space, with the scripts in it."""
    folder = tmp_path / "a clone"
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder for PATH that has a few tools and no Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (folder / tool).symlink_to(found)
    return folder


def pretend(python: Path, version: str | None, *, modules: bool = True) -> None:
    """Make a program that behaves like a Python of this version; None: a shim that fails."""
    python.parent.mkdir(parents=True, exist_ok=True)
    lines = ["#!/bin/sh", 'case "$2" in']
    if version is None:
        lines += ["*) exit 127 ;;"]
    else:
        lines += [
            f"*version_info*) echo {version} ;;",
            f"*ensurepip*) exit {0 if modules else 1} ;;",
            '*) echo "$(basename "$0") ran $*" ;;',
        ]
    python.write_text("\n".join([*lines, "esac", ""]))
    python.chmod(0o755)


def run(clone: Path, path: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run scripts/serve from somewhere else."""
    return subprocess.run(
        [clone / "scripts" / "serve", *arguments],
        cwd=path,
        env={"PATH": f"{path}:/usr/bin/nowhere", "PYENV_ROOT": str(path / "pyenv"), **env},
        capture_output=True,
        text=True,
        check=False,
    )


def stamp(clone: Path, path: Path, venv: str = ".venv") -> None:
    """Pretend that the environment is made and current."""
    pretend(clone / venv / "bin" / "python", "3.12.1")
    sums = subprocess.run(
        ["cksum"],
        input=(clone / "pyproject.toml").read_text(),
        capture_output=True,
        text=True,
        check=True,
    )
    (clone / venv / ".llmproxy-serve").write_text(f"{sums.stdout.strip()} {clone}\n")


def test_a_current_environment_is_used_at_once(clone: Path, path: Path) -> None:
    stamp(clone, path)

    done = run(clone, path, "--port", "1")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "python ran -m llmproxy serve --port 1\n"


def test_another_folder_can_be_named(clone: Path, path: Path) -> None:
    stamp(clone, path, ".venv-other")

    done = run(clone, path, LLMPROXY_VENV=".venv-other")

    assert done.stdout == "python ran -m llmproxy serve\n"


@pytest.mark.parametrize("change", ["project", "place", "never made"])
def test_an_environment_that_is_not_current_is_made_by_the_newest_fitting_python(
    clone: Path, path: Path, change: str
) -> None:
    stamp(clone, path)
    if change == "project":
        with (clone / "pyproject.toml").open("a") as project:
            project.write("# changed\n")
    if change == "place":
        clone = clone.rename(clone.with_name("moved clone"))
    if change == "never made":
        shutil.rmtree(clone / ".venv")
        pretend(clone / ".venv" / "bin" / "python", "3.12.1")
    pretend(path / "python3.14", None)
    pretend(path / "python3.13", "3.13.2", modules=False)
    pretend(path / "python3.12", "3.12.7")
    pretend(path / "python3", "3.11.2")

    done = run(clone, path)

    made, served = done.stdout.splitlines()
    assert made.startswith(f"python3.12 ran {clone}/scripts/python_environment.py {clone} ")
    assert " serve " in made
    assert served == "python ran -m llmproxy serve"


def test_the_python_that_is_asked_for_is_used(clone: Path, path: Path) -> None:
    stamp(clone, path)
    pretend(path / "python3.14", "3.14.0")
    pretend(path / "mine", "3.11.4")

    done = run(clone, path, PYTHON=str(path / "mine"))

    assert done.stdout.startswith("mine ran ")


def test_a_python_that_pyenv_keeps_off_the_path_is_found(clone: Path, path: Path) -> None:
    pretend(clone / ".venv" / "bin" / "python", "3.12.1")
    pretend(path / "python3", "3.9.2")
    pretend(path / "pyenv" / "versions" / "3.12.1" / "bin" / "python3", "3.12.1")

    done = run(clone, path)

    assert done.stdout.startswith("python3 ran ")


def test_without_a_fitting_python_it_says_what_is_missing(clone: Path, path: Path) -> None:
    pretend(path / "python3", "3.9.2")
    pretend(path / "python3.11", "3.11.2", modules=False)

    done = run(clone, path)

    assert done.returncode == 1
    assert done.stdout == ""
    assert "needs Python 3.11, 3.12, 3.13 or 3.14" in done.stderr
    assert "python3 is Python 3.9.2" in done.stderr
    assert "python3-venv" in done.stderr


@pytest.mark.external
@pytest.mark.timeout(300)
def test_two_first_starts_at_once_make_one_environment_and_a_half_made_one_is_mended(
    clone: Path,
) -> None:
    for name in ("llmproxy", "README.md", "LICENSE"):
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, clone / name)
    command = [str(clone / "scripts" / "serve"), "--help"]
    env = {name: value for name, value in os.environ.items() if name != "LLMPROXY_VENV"}
    both = [
        subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    outputs = [each.communicate() for each in both]
    assert [each.returncode for each in both] == [0, 0], outputs
    assert sum(b"preparing" in errors for _, errors in outputs) == 1

    (clone / ".venv" / ".llmproxy-making").touch()  # as if the next change's making broke off
    (clone / ".venv" / ".llmproxy-serve").unlink()
    shutil.rmtree(next((clone / ".venv" / "lib").glob("python*/site-packages/aiohttp")))
    mended = subprocess.run(command, env=env, capture_output=True, check=False)
    probe = [str(clone / ".venv" / "bin" / "python"), "-c", "import aiohttp.web"]

    assert mended.returncode == 0
    assert subprocess.run(probe, check=False).returncode == 0
