"""Other gateways, where they can be installed: which, how, and how each is started.

They go into a folder of their own, with the versions that stand here; nothing of them is needed
for the rest.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from .setting import LITELLM, PORTKEY, VLLM_ROUTER, Setting

INSTALL_SECONDS = 900
TOLD = 300  # letters of what an installer said
MOST_STREAMS = "8192"
DONE = "installed.json"

LITELLM_CONFIG = """\
model_list:
  - model_name: bench
    litellm_params:
      model: openai/bench
      api_base: http://127.0.0.1:{provider_port}/v1
      api_key: bench
litellm_settings:
  telemetry: false
  num_retries: 0
"""

# A fresh install of Portkey fails every stream ("immutable" headers) with a newer @hono/node-server.
PORTKEY_PACKAGE = {
    "private": True,
    "dependencies": {"@portkey-ai/gateway": "1.15.2"},
    "overrides": {"@hono/node-server": "1.13.8"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """How a gateway is installed into a folder and started."""

    version: str
    needs: str  # the program that installs it
    install: Callable[[Path], Sequence[Sequence[str]]]
    command: Callable[[Path, Setting, int], list[str]]


def _of_pip(*packages: str) -> Callable[[Path], Sequence[Sequence[str]]]:
    def commands(place: Path) -> Sequence[Sequence[str]]:
        pip = str(place / "venv/bin/pip")
        return (
            (sys.executable, "-m", "venv", str(place / "venv")),
            (pip, "install", "--quiet", "--disable-pip-version-check", *packages),
        )

    return commands


def _of_npm(place: Path) -> Sequence[Sequence[str]]:
    (place / "package.json").write_text(json.dumps(PORTKEY_PACKAGE))
    return (("npm", "install", "--prefix", str(place), "--no-audit", "--no-fund", "--silent"),)


def _litellm(place: Path, setting: Setting, port: int) -> list[str]:
    config = setting.folder / "litellm.yaml"
    config.write_text(LITELLM_CONFIG.format(provider_port=setting.provider_port))
    return [
        "env",
        "LITELLM_LOCAL_MODEL_COST_MAP=True",  # else it is fetched at each start
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY=true",
        str(place / "venv/bin/litellm"),
        *("--config", str(config), "--host", "127.0.0.1", "--port", str(port)),
        *("--num_workers", "1"),
    ]


def _portkey(place: Path, setting: Setting, port: int) -> list[str]:
    program = place / "node_modules/@portkey-ai/gateway/build/start-server.js"
    return ["node", str(program), f"--port={port}", "--headless"]


def _vllm_router(place: Path, setting: Setting, port: int) -> list[str]:
    return [
        *("env", "TOKIO_WORKER_THREADS=1"),
        str(place / "venv/bin/vllm-router"),
        *("--worker-urls", f"http://127.0.0.1:{setting.provider_port}"),
        *("--policy", "round_robin", "--host", "127.0.0.1", "--port", str(port)),
        *("--max-concurrent-requests", MOST_STREAMS, "--queue-size", MOST_STREAMS),
        *("--log-level", "warning"),
    ]


PEERS: Mapping[str, Peer] = MappingProxyType(
    {
        LITELLM: Peer(
            version="1.108.7",
            needs="python3",
            install=_of_pip("litellm[proxy]==1.108.7"),
            command=_litellm,
        ),
        PORTKEY: Peer(version="1.15.2", needs="npm", install=_of_npm, command=_portkey),
        VLLM_ROUTER: Peer(
            version="0.1.17",
            needs="python3",
            install=_of_pip("vllm-router==0.1.17"),
            command=_vllm_router,
        ),
    }
)
NAMES = tuple(PEERS)


def _bound(name: str) -> Callable[[Setting, int], list[str]]:
    def command(setting: Setting, port: int) -> list[str]:
        assert setting.peers
        return PEERS[name].command(setting.peers / name, setting, port)

    return command


COMMANDS: Mapping[str, Callable[[Setting, int], list[str]]] = MappingProxyType(
    {name: _bound(name) for name in NAMES}
)


def headers(name: str, setting: Setting) -> Sequence[str]:
    """What each request to a contender has to say besides, as lines."""
    if name != PORTKEY:
        return ()
    return (
        "x-portkey-provider: openai",
        f"x-portkey-custom-host: http://127.0.0.1:{setting.provider_port}/v1",
    )


def missing(folder: Path, names: Sequence[str]) -> Mapping[str, str]:
    """Install what is not there yet; gives why, for each peer that cannot be."""
    reasons = {}
    for name in names:
        print(f"bench: {name} {PEERS[name].version}: looking into {folder / name}", file=sys.stderr)
        reason = _installed(folder / name, PEERS[name])
        if reason:
            reasons[name] = reason
    return reasons


def _installed(place: Path, peer: Peer) -> str | None:
    """None when the peer is there, else why not."""
    wanted = json.dumps({"version": peer.version})
    if (place / DONE).exists() and (place / DONE).read_text() == wanted:
        return None
    if shutil.which(peer.needs) is None:
        return f"{peer.needs} is not there to install it"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for command in peer.install(place):
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=INSTALL_SECONDS,
                check=False,
                env=os.environ | {"NODE_ENV": "production"},
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if done.returncode:
            return (done.stderr or done.stdout).strip()[-TOLD:] or f"{command[0]} failed"
    (place / DONE).write_text(wanted)
    return None
