"""What the papers quote is what was measured."""

import argparse
from pathlib import Path

import pytest

from bench import paper
from bench.command import About
from tests.unit.bench.rounds import a_round

TEXT = "Before.\n<!-- measured: full -->\nstale 7.7\n<!-- end -->\nAfter.\n"


def write(folder: Path, name: str = paper.FULL, **values: float) -> None:
    """Write a run of two contenders as the command does."""
    options = argparse.Namespace(
        quick=False, note="in use by others", log="info", names=["nginx", "llmproxy"], workers=None
    )
    about = About(machine="a machine", commit="abc", options=options)
    theirs = {key: value / 2 for key, value in values.items()}
    text = about.as_json([[a_round(nginx=theirs, llmproxy=values)] * 3] * 2)
    (folder / name).write_text(text)


def test_a_quoted_table_is_the_measured_one_and_says_of_what(tmp_path: Path) -> None:
    write(tmp_path, request_us=68.24)

    text = paper.filled(TEXT, tmp_path)

    assert text.startswith("Before.\n<!-- measured: full -->\n")
    assert text.endswith("\n<!-- end -->\nAfter.\n")
    assert "commit abc, 6 interleaved rounds in 2 runs; a machine; in use by others." in text
    assert "| CPU per request, saturated, µs | 34.1 | 68.2 | 2.00 (2.00" in text
    assert "stale" not in text


def test_what_is_filled_once_stays_as_it_is(tmp_path: Path) -> None:
    write(tmp_path, request_us=68.24)
    text = paper.filled(TEXT, tmp_path)

    assert paper.filled(text, tmp_path) == text


def test_another_number_in_the_paper_is_seen(tmp_path: Path) -> None:
    write(tmp_path, request_us=68.24)
    text = paper.filled(TEXT, tmp_path)

    better = text.replace("68.2", "58.2")

    assert paper.filled(better, tmp_path) == text


def test_what_was_not_measured_is_said_to_be_so(tmp_path: Path) -> None:
    assert "Not measured yet." in paper.filled(TEXT, tmp_path)


@pytest.mark.parametrize(("name", "file"), [("peers", paper.PEERS), ("workers", paper.WORKERS)])
def test_each_table_comes_from_a_file_of_its_own(tmp_path: Path, name: str, file: str) -> None:
    write(tmp_path, file, request_us=68.24)

    assert "68.2" in paper.filled(TEXT.replace("full", name), tmp_path)
    assert "Not measured yet." in paper.filled(TEXT, tmp_path)


def test_a_table_that_there_is_not_is_an_error() -> None:
    with pytest.raises(KeyError):
        paper.filled(TEXT.replace("full", "fall"))
