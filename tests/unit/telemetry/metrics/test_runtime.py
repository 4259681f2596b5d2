"""The process's own numbers."""

import os
import platform
import time
from pathlib import Path

from aioprometheus.collectors import Registry

from llmproxy import __version__
from llmproxy.telemetry.metrics.exposition import Exposition
from llmproxy.telemetry.metrics.ledger import FIRST, PID, Ledger
from llmproxy.telemetry.metrics.runtime import RUNTIME, Runtime, runtime
from tests.support.metrics import Numbers

PROCESS = 4711
WROTE = (*[0.0] * PID, PROCESS, *[0.0] * FIRST)  # what a process has in its seat


def folder(proc: Path) -> Path:
    """Make a `/proc` with a folder for the process, in which there is nothing yet."""
    (proc / "self").mkdir()
    (proc / "self/stat").touch()
    (proc / str(PROCESS)).mkdir()
    return proc / str(PROCESS)


def scrape() -> Numbers:
    registry, ledger = Registry(), Ledger(())
    Runtime(registry, ledger).tick(0.25)
    return Numbers.parse(b"".join(Exposition(registry, (), ledger).slices()[0]).decode())


def test_the_process_shows_itself_under_the_usual_names() -> None:
    numbers = scrape()

    names = {name for name, _ in numbers.samples}
    assert {
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_start_time_seconds",
        "process_open_fds",
        "process_max_fds",
        "python_info",
        "python_gc_objects_collected_total",
        "python_gc_objects_uncollectable_total",
        "python_gc_collections_total",
    } <= names


def test_the_numbers_are_this_process_s() -> None:
    numbers = scrape()

    assert 0 < (numbers.value("process_cpu_seconds_total") or 0) <= time.process_time()
    assert (numbers.value("process_resident_memory_bytes") or 0) > 1 << 20
    started = numbers.value("process_start_time_seconds") or 0
    assert abs(started - Path(f"/proc/{os.getpid()}").stat().st_ctime) < 3600
    assert numbers.value("python_gc_collections_total", generation="2") is not None


def test_build_info_and_loop_lag_are_shown() -> None:
    numbers = scrape()

    python = platform.python_version()
    assert numbers.value("llm_build_info", version=__version__, python=python) == 1
    assert numbers.value("llm_event_loop_lag_seconds") == 0.25


def test_without_proc_its_families_are_left_out(tmp_path: Path) -> None:
    names = {family.name for family, _ in runtime(tmp_path)}

    assert "process_cpu_seconds_total" in names
    assert names.isdisjoint({"process_open_fds", "process_resident_memory_bytes"})


def test_a_file_that_cannot_be_opened_leaves_its_sample_out(tmp_path: Path) -> None:
    folder(tmp_path)
    readers = {family.name: read for family, read in runtime(tmp_path)}

    assert list(readers["process_resident_memory_bytes"](WROTE)) == []
    assert list(readers["process_open_fds"](WROTE)) == []


def test_a_command_name_with_brackets_and_blanks_is_passed_over(tmp_path: Path) -> None:
    fields = " ".join(["S", *["0"] * 19, "4096", "7"])
    (folder(tmp_path) / "stat").write_text(f"1 (a) b) {fields}\n")
    readers = {family.name: read for family, read in runtime(tmp_path)}

    ((_, size),) = readers["process_virtual_memory_bytes"](WROTE)

    assert size == 4096


def test_every_family_is_in_the_reference_s_list() -> None:
    described = {family.name for family in RUNTIME}

    assert {family.name for family, _ in runtime()} <= described
