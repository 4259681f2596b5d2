"""Compose file, Kubernetes manifest, systemd unit and image: of one mind with the gateway."""

import re

import pytest
from yarl import URL

from llmproxy.config.load import parse
from llmproxy.config.schema import Config, ServerConfig
from tests.deploy import files

SPARE = 10
(COMPOSE,) = files.documents(files.COMPOSE)
SERVICES = COMPOSE["services"]
SERVICE_PARAMS = [pytest.param(service, id=name) for name, service in SERVICES.items()]
POD = files.resource("Deployment")["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]
UNIT = files.unit()
DOCKERFILE = files.DOCKERFILE.read_text(encoding="utf-8")


def seconds(text: str) -> int:
    assert text.endswith("s")
    return int(text[:-1])


def compose_config() -> Config:
    text = (files.DEPLOY / "llmproxy.toml").read_text(encoding="utf-8")
    return parse(text, {"LLMPROXY_CLIENT_KEY": "a client key"}, read=no_file, source="compose")


def no_file(path: str) -> str:
    raise FileNotFoundError(path)


def kubernetes_config() -> tuple[Config, list[str]]:
    """Give the configuration, and the files that it reads."""
    read: list[str] = []

    def secret(path: str) -> str:
        read.append(path)
        return f"the secret in {path}\n"

    text = files.resource("ConfigMap")["data"]["llmproxy.toml"]
    return parse(text, {}, read=secret, source="kubernetes"), read


def test_the_configuration_for_compose_is_accepted_and_needs_no_account() -> None:
    config = compose_config()
    path = SERVICES["gateway"]["environment"]["LLMPROXY_CONFIG"]

    assert SERVICES["gateway"]["volumes"] == [f"./llmproxy.toml:{path}:ro"]
    assert config.warnings == ()
    assert {provider.kind for provider in config.providers.values()} == {"mock"}
    assert [key.name for key in config.keys] == ["compose"]


def test_the_configuration_for_kubernetes_is_accepted_and_reads_what_is_mounted() -> None:
    config, read = kubernetes_config()
    mounts = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}

    assert config.warnings == ()
    assert config.keys
    assert read
    assert all(path.startswith(f"{mounts['secrets']}/") for path in read)
    assert CONTAINER["env"] == [
        {"name": "LLMPROXY_CONFIG", "value": f"{mounts['config']}/llmproxy.toml"}
    ]


def test_the_unit_reads_the_secrets_that_its_example_names() -> None:
    text = files.UNIT.read_text(encoding="utf-8")
    named = set(re.findall(r"file:/run/credentials/llmproxy\.service/(\w+)", text))

    assert named
    assert {credential.split(":")[0] for credential in UNIT["LoadCredential"]} == named


def test_compose_waits_longer_than_the_grace() -> None:
    stop = seconds(SERVICES["gateway"]["stop_grace_period"])

    assert stop >= compose_config().server.grace + SPARE


def test_systemd_waits_longer_than_the_grace() -> None:
    assert int(UNIT["TimeoutStopSec"][0]) >= ServerConfig().grace + SPARE


def test_kubernetes_waits_longer_than_the_grace_and_the_pause_before_the_stop() -> None:
    grace = kubernetes_config()[0].server.grace
    stop = POD["spec"]["terminationGracePeriodSeconds"]
    pause = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]

    assert stop >= grace + SPARE
    assert stop > grace + pause


@pytest.mark.parametrize("service", SERVICE_PARAMS)
def test_a_service_is_published_on_loopback_only(service: files.Json) -> None:
    assert service["ports"]
    assert all(str(port).startswith("127.0.0.1:") for port in service["ports"])


@pytest.mark.parametrize("service", SERVICE_PARAMS)
def test_a_service_can_change_nothing_but_its_volumes(service: files.Json) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("service", SERVICE_PARAMS)
def test_a_service_is_probed(service: files.Json) -> None:
    assert service["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", ["prometheus", "grafana"])
def test_a_foreign_image_is_pinned_to_a_release(name: str) -> None:
    assert re.fullmatch(r"[\w/]+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])


@pytest.mark.parametrize("service", SERVICE_PARAMS)
def test_what_is_mounted_exists(service: files.Json) -> None:
    sources = [volume.split(":")[0] for volume in service["volumes"]]

    for source in sources:
        if source.startswith("."):
            assert (files.DEPLOY / source).exists()
        else:
            assert source in COMPOSE["volumes"]


def test_compose_insists_on_a_client_key() -> None:
    assert SERVICES["gateway"]["environment"]["LLMPROXY_CLIENT_KEY"].startswith(
        "${LLMPROXY_CLIENT_KEY:?"
    )


def test_the_image_and_compose_ask_the_gateway_itself_whether_it_is_well() -> None:
    assert SERVICES["gateway"]["healthcheck"]["test"] == ["CMD", "llmproxy", "health"]
    assert 'CMD ["llmproxy", "health"]' in DOCKERFILE


def test_prometheus_scrapes_the_gateway_where_compose_runs_it() -> None:
    (prometheus,) = files.documents(files.PROMETHEUS)
    (job,) = prometheus["scrape_configs"]
    port = compose_config().server.port

    assert job["static_configs"] == [{"targets": [f"gateway:{port}"]}]
    assert SERVICES["gateway"]["ports"] == [f"127.0.0.1:{port}:{port}"]


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    (sources,) = files.documents(files.PROVISIONING / "datasources" / "prometheus.yml")
    (boards,) = files.documents(files.PROVISIONING / "dashboards" / "llmproxy.yml")
    (prometheus,) = files.documents(files.PROMETHEUS)
    (source,) = sources["datasources"]
    (board,) = boards["providers"]
    mounts = dict(volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"])
    dashboard = f"{board['options']['path']}/llmproxy.json"
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]

    assert URL(source["url"]).host in SERVICES
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]
    assert mounts["./grafana/dashboard.json"] == dashboard == home
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"


def test_the_image_runs_as_the_user_that_kubernetes_names() -> None:
    user = POD["spec"]["securityContext"]["runAsUser"]

    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE) == [f"{user}:{user}"]


def test_the_image_takes_from_the_repository_what_the_ignore_file_lets_through() -> None:
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
        for source in line.split()
    }
    lines = (files.ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()

    assert "*" in lines
    assert {line[1:] for line in lines if line.startswith("!")} == copied


def test_the_image_installs_nothing_without_a_hash() -> None:
    installs = re.findall(r'"install", (.+)\]', DOCKERFILE)

    assert installs == [
        '"--require-hashes", "--requirement", "requirements.lock"',
        '"--no-deps", "."',
    ]


@pytest.mark.parametrize(
    ("probe", "path"),
    [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")],
)
def test_kubernetes_probes_the_gateway(probe: str, path: str) -> None:
    assert CONTAINER[probe]["httpGet"] == {"path": path, "port": "http"}


def test_the_pod_is_found_by_its_service_its_deployment_and_its_budget() -> None:
    labels = POD["metadata"]["labels"]

    assert files.resource("Service")["spec"]["selector"] == labels
    assert files.resource("Deployment")["spec"]["selector"]["matchLabels"] == labels
    assert files.resource("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels


def test_the_pod_can_do_nothing_but_serve() -> None:
    assert POD["spec"]["automountServiceAccountToken"] is False
    assert POD["spec"]["securityContext"]["runAsNonRoot"] is True
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_pod_is_scraped_at_its_port() -> None:
    annotations = POD["metadata"]["annotations"]
    (port,) = CONTAINER["ports"]

    assert annotations == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(port["containerPort"]),
        "prometheus.io/path": "/metrics",
    }


def test_the_unit_is_not_started_again_after_a_wrong_configuration() -> None:
    assert UNIT["Restart"] == ["on-failure"]
    assert UNIT["RestartPreventExitStatus"] == ["2"]


def test_the_unit_promises_no_signal_that_the_gateway_does_not_send_or_take() -> None:
    assert UNIT["Type"] == ["exec"]
    assert UNIT["ExecReload"] == ["/bin/kill -HUP $MAINPID"]


def test_the_readme_names_every_file() -> None:
    readme = (files.DEPLOY / "README.md").read_text(encoding="utf-8")
    names = {
        path.relative_to(files.DEPLOY).as_posix()
        for path in files.DEPLOY.rglob("*")
        if path.is_file() and path.name != "README.md"
    }

    assert {name for name in names if f"`{name}`" not in readme} == set()
