"""The pytest plugin, in a user's project: pytest runs in a process of its own."""

import importlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
USERS_TESTS = '''
import openai
import pytest


def ask(base_url, **more):
    with openai.OpenAI(base_url=base_url, api_key="any", max_retries=0) as client:
        return client.chat.completions.create(
            model="gpt-4", messages=[{"role": "user", "content": "Hi"}], **more
        )


@pytest.mark.llm_faults("server_error", "cut_mid_stream")
def test_the_marker_scripts_the_provider(llm_provider):
    with pytest.raises(openai.InternalServerError):
        ask(llm_provider.openai_url)
    with pytest.raises(openai.APIConnectionError):
        list(ask(llm_provider.openai_url, stream=True))
    assert ask(llm_provider.openai_url).choices[0].message.content


def test_each_test_has_a_provider_of_its_own(llm_provider):
    assert llm_provider.requests == ()


def test_the_gateway_repeats(llm_provider, llm_gateway):
    llm_provider.script("server_error")

    completion = ask(llm_gateway.openai_url)

    assert completion.choices[0].message.content == "Hello from the scripted provider"
    assert len(llm_provider.requests) == 2


class TestOwnConfiguration:
    @pytest.fixture
    def llm_gateway_config(self, llm_provider):
        return f"""
            retry.max_attempts = 1
            [providers.mine]
            kind = "openai"
            base_url = "{llm_provider.openai_url}"
            [models.gpt-4]
            targets = ["mine/other"]
        """

    def test_the_gateway_obeys_it(self, llm_provider, llm_gateway):
        llm_provider.script("server_error")

        with pytest.raises(openai.InternalServerError):
            ask(llm_gateway.openai_url)

        assert [request.json["model"] for request in llm_provider.requests] == ["other"]
'''


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run pytest with this plugin and no other."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "llmproxy.pytest_plugin"]
    return subprocess.run(
        [*command, "-q", "--strict-markers", "-W", "error", *options, "."],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_a_users_tests_meet_faults_by_name_without_any_other_plugin(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_mine.py").write_text(USERS_TESTS)

    done = run(tmp_path)

    assert done.stdout.splitlines()[-1].startswith("4 passed"), done.stdout + done.stderr


def test_the_papers_example_passes(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    (tmp_path / "test_paper.py").write_text(page.split("```python\n")[1].partition("```")[0])

    done = run(tmp_path)

    assert done.stdout.splitlines()[-1].startswith("1 passed"), done.stdout + done.stderr


def test_a_fault_that_does_not_exist_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "import pytest\n\n"
        "@pytest.mark.llm_faults('cut_midstream')\n"
        "def test_it(llm_provider): pass\n"
    )

    done = run(tmp_path)

    assert done.returncode == 1
    assert "there is no fault 'cut_midstream' (did you mean cut_mid_stream?)" in done.stdout


def test_the_marker_is_listed(tmp_path: Path) -> None:
    assert "@pytest.mark.llm_faults(*names):" in run(tmp_path, "--markers").stdout


def test_a_run_that_uses_it_not_pays_nothing_for_it() -> None:
    probe = (
        "import sys, pytest; before = set(sys.modules); import llmproxy.pytest_plugin; "
        "print(sorted(set(sys.modules) - before))"
    )

    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout == "['llmproxy', 'llmproxy.pytest_plugin']\n"


def test_pytest_finds_it_where_the_package_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    plugin = importlib.import_module(project["entry-points"]["pytest11"]["llmproxy"])

    assert isinstance(plugin.llm_provider, type(pytest.fixture(lambda: None)))
