"""The contenders: how each is configured and started, and how soon it answers."""

import http.client
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from . import peers
from .processes import ProgramFailed, free_port, log_tail, running
from .setting import DIRECT, FOLDER, LLMPROXY, NGINX, PLAIN, WORKERS, Contender, Setting

START_SECONDS = 30.0
PEER_START_SECONDS = 120.0
POLL_SECONDS = 0.002
ANSWER_SECONDS = 5.0

NGINX_CONF = """\
{user}worker_processes 1;
worker_rlimit_nofile 16384;
daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{
    worker_connections 8192;
}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 10000000;
    upstream provider {{
        server 127.0.0.1:{provider_port};
        keepalive 256;
        keepalive_requests 10000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        client_max_body_size 32m;
        client_body_buffer_size 2m;
        location /v1/ {{
            proxy_pass http://provider;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header Authorization "Bearer bench";
            proxy_buffering off;
            proxy_read_timeout 600s;
        }}
    }}
}}
"""

LLMPROXY_CONFIG = """\
[server]
host = "127.0.0.1"
port = {port}

[logging]
level = "{log_level}"

[providers.bench]
kind = "openai"
base_url = "http://127.0.0.1:{provider_port}/v1"
api_key = "bench"

[providers.messages]
kind = "anthropic"
base_url = "http://127.0.0.1:{provider_port}"
api_key = "bench"

[models."bench"]
targets = ["bench/bench"]

[models."across"]
targets = ["messages/bench"]
"""
LLMPROXY_MODEL = """
[models."bench-{number:03}"]
targets = ["bench/bench"]
"""

REQUEST = json.dumps({"model": "bench", "messages": [{"role": "user", "content": "Awake?"}]})


def find_nginx() -> str | None:
    """The nginx program; Debian keeps it where only root's PATH leads."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin"))
    return shutil.which("nginx", path=path)


@contextmanager
def started(name: str, setting: Setting) -> Iterator[Contender]:
    """A contender that has given its first answer; it is ended on the way out."""
    if name == DIRECT:
        yield Contender(name=name, port=setting.provider_port, pid=None, cold_start_seconds=None)
        return
    port = free_port()
    log = setting.folder / f"{name}.log"
    command = COMMANDS[name](setting, port)
    headers = peers.headers(name, setting)
    patience = PEER_START_SECONDS if name in peers.NAMES else START_SECONDS
    begun = time.monotonic()
    with running(command, cpus=set(setting.cpus), log=log, cwd=FOLDER.parent) as process:
        contender = Contender(
            name=name, port=port, pid=process.pid, cold_start_seconds=None, headers=headers
        )
        _await_answer(contender, process, log, patience)
        yield replace(contender, cold_start_seconds=time.monotonic() - begun)


def _await_answer(
    contender: Contender, process: subprocess.Popen[bytes], log: Path, patience: float
) -> None:
    deadline = time.monotonic() + patience
    name, seen = contender.name, "nothing"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ProgramFailed(f"{name} ended with {process.returncode}:\n{log_tail(log)}")
        try:
            status = _ask(contender)
        except (OSError, http.client.HTTPException) as error:
            seen = str(error)
        else:
            if status == 200:
                return
            seen = f"status {status}"
        time.sleep(POLL_SECONDS)
    raise ProgramFailed(f"{name} gave no answer in {patience:.0f} s: {seen}\n{log_tail(log)}")


def _ask(contender: Contender) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", contender.port, timeout=ANSWER_SECONDS)
    headers = {"content-type": "application/json", "authorization": "Bearer bench"}
    headers |= dict(line.split(": ", 1) for line in contender.headers)
    try:
        connection.request("POST", "/v1/chat/completions", REQUEST, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def _nginx(setting: Setting, port: int) -> list[str]:
    conf = setting.folder / "nginx.conf"
    # Under root, nginx's workers would become "nobody" and lose the folder.
    user = "user root;\n" if os.geteuid() == 0 else ""
    conf.write_text(
        NGINX_CONF.format(
            user=user, folder=setting.folder, port=port, provider_port=setting.provider_port
        )
    )
    return [find_nginx() or NGINX, "-p", str(setting.folder), "-e", "stderr", "-c", str(conf)]


def _plain(setting: Setting, port: int) -> list[str]:
    provider = f"http://127.0.0.1:{setting.provider_port}"
    return [setting.python, str(FOLDER / "plain.py"), str(port), provider]


def _llmproxy(setting: Setting, port: int) -> list[str]:
    config = setting.folder / f"llmproxy-{port}.toml"
    text = LLMPROXY_CONFIG.format(
        port=port, provider_port=setting.provider_port, log_level=setting.log_level
    )
    models = [LLMPROXY_MODEL.format(number=number) for number in range(setting.models)]
    config.write_text("".join((text, *models)))
    return [setting.python, "-m", "llmproxy", "serve", "--config", str(config)]


def _workers(setting: Setting, port: int) -> list[str]:
    return [*_llmproxy(setting, port), "--workers", str(setting.workers)]


COMMANDS: Mapping[str, Callable[[Setting, int], list[str]]] = MappingProxyType(
    {NGINX: _nginx, PLAIN: _plain, LLMPROXY: _llmproxy, WORKERS: _workers, **peers.COMMANDS}
)
NAMES = (DIRECT, NGINX, PLAIN, LLMPROXY)
"""What a run measures unless it is told otherwise."""
