"""`requirements.lock` has what pyproject asks for, by name, version and hash only."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
LOCKED = {name.lower(): version for name, version in re.findall(r"(?m)^([\w.-]+)==(\S+)", LOCK)}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize(
    "wanted", [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["speed"]]
)
def test_each_requirement_is_locked_at_a_version_that_satisfies_it(wanted: str) -> None:
    requirement = Requirement(wanted)

    assert requirement.specifier.contains(LOCKED[requirement.name])


def test_each_package_has_hashes() -> None:
    blocks = re.split(r"(?m)^(?=\w)", LOCK)[1:]

    assert len(blocks) == len(LOCKED)
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", block) for block in blocks)


def test_no_address_stands_in_it() -> None:
    lines = [line for line in LOCK.splitlines() if not line.startswith("#")]

    assert not [line for line in lines if "/" in line or "://" in line or "index" in line]
