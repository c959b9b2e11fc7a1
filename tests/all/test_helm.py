"""deploy/helm/sendtrace, rendered by helm: every object against Kubernetes' own schemas, every
variable against our settings.

`make test-all` builds helm. Strict: a field that Kubernetes does not know is an error here, as it
is with `kubectl apply`, and not with `helm install`.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from sendtrace.cli import cli
from sendtrace.runtime.settings import Settings, from_environment

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/sendtrace"
HELM = os.environ.get("TEST_HELM", "helm")  # `make full-test` builds it, and says which
FULL = Path(__file__).parent / "helm_full_values.yaml"
# The oldest that Chart.yaml admits, and the newest that there are schemas of.
VERSIONS = ["1.27", kubernetes_validate.latest_version()]
PROCESSES = {"edge", "joiner", "rollup", "exporter", "loader"}
# What Kubernetes' schemas do not have: another operator's.
FOREIGN = {"PodMonitor"}

Object = dict[str, Any]


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [HELM, *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def template(*arguments: str) -> list[Object]:
    done = helm("template", "prod", str(CHART), "--kube-version", "1.30", *arguments)
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def refusal(*arguments: str) -> str:
    done = helm("template", "prod", str(CHART), *arguments)
    assert done.returncode != 0, "it was taken"
    return done.stderr


@pytest.fixture(scope="module")
def default() -> list[Object]:
    return template()


@pytest.fixture(scope="module")
def full() -> list[Object]:
    return template("--values", str(FULL))


@pytest.fixture(params=["default", "full"])
def objects(request: pytest.FixtureRequest) -> list[Object]:
    found: list[Object] = request.getfixturevalue(request.param)
    return found


def workloads(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Everything with a pod, by its component."""
    for each in objects:
        if each["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield component_of(each), each


def component_of(each: Object) -> str:
    name: str = each["metadata"]["labels"]["app.kubernetes.io/component"]
    return name


def pod_of(each: Object) -> Object:
    pod: Object = each["spec"]["template"]["spec"]
    return pod


def container_of(each: Object) -> Object:
    [container] = pod_of(each)["containers"]
    return dict(container)


def environment_of(each: Object) -> dict[str, str]:
    """With a stand-in for what comes from a Secret."""
    return {entry["name"]: entry.get("value", "x") for entry in container_of(each)["env"]}


def of(objects: list[Object], kind: str, component: str) -> Object:
    [found] = [o for o in objects if o["kind"] == kind and component_of(o) == component]
    return found


# Lint and schemas


@pytest.mark.parametrize("values", [[], ["--values", str(FULL)]], ids=["default", "full"])
def test_lint(values: list[str]) -> None:
    done = helm("lint", "--strict", str(CHART), *values)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(objects: list[Object], version: str) -> None:
    checked = [each for each in objects if each["kind"] not in FOREIGN]
    for each in checked:
        kubernetes_validate.validate(each, version, strict=True)
    assert len(checked) > 15


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["spec", "replicas"], "two"),
        (["spec", "replica"], 2),
        (["spec", "template", "spec", "enableServiceLink"], False),
        (["spec", "template", "spec", "containers", 0, "readynessProbe"], {}),
        (["spec", "template", "spec", "containers", 0, "ports", 0, "containerPort"], "a"),
        (["spec", "template", "spec", "securityContext", "readOnlyRootFilesystem"], True),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_planted_mistake_is_seen(default: list[Object], path: list[Any], value: object) -> None:
    spoilt = copy.deepcopy(of(default, "Deployment", "edge"))
    target: Any = spoilt
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(spoilt, VERSIONS[-1], strict=True)


def test_the_full_values_set_every_value() -> None:
    """Else the full rendering would leave a branch of the templates out."""
    given = yaml.safe_load(FULL.read_text())
    known = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(given) == set(known)
    for name, value in known.items():
        if isinstance(value, dict) and value and name != "settings":
            assert set(given[name]) == set(value), name
        # Without the Jobs there would be less to look at: a test of their own leaves them out.
        assert given[name] != value or name == "jobs", name


# What is refused


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("joiner.replica=2", "additional properties 'replica' not allowed"),
        ("edge.replicas=0", "/edge/replicas"),
        ("edge.replicas=two", "/edge/replicas"),
        ("settings.partition=12", "additional properties 'partition' not allowed"),
        ("settings.partitions=many", "/settings/partitions"),
        ("settings.edge_port=1", "additional properties 'edge_port' not allowed"),
        ("settings.postgres_dsn=secret", "additional properties 'postgres_dsn' not allowed"),
        ("kafka.bootstrap=kafka", "/kafka/bootstrap"),
        ("kafka.bootstrap=", "/kafka/bootstrap"),
        ("accounts.secret=", "/accounts/secret"),
        ("accounts.file=a/b", "/accounts/file"),
        ("postgres.dsn=x", "additional properties 'dsn' not allowed"),
        ("image.digest=latest", "/image/digest"),
        ("edge.ingress.enabled=true", "/edge/ingress/host"),
        ("edge.resources.limits.memory=lots", "/edge/resources/limits/memory"),
        ("runAsUser=0", "/runAsUser"),
        ("joiner.acceptGap=once", "/joiner/acceptGap"),
        ("exporter.acceptGap=true", "additional properties 'acceptGap' not allowed"),
        ("joiner.replicas=13", "joiner.replicas is 13, and there are 12 partitions"),
    ],
)
def test_a_wrong_value_is_refused(given: str, told: str) -> None:
    assert told in refusal("--set", given)


# Settings


def test_every_variable_is_a_setting_with_a_value_it_can_have(objects: list[Object]) -> None:
    for _, each in workloads(objects):
        from_environment(environment_of(each))


def test_a_variable_that_is_no_setting_would_be_seen(default: list[Object]) -> None:
    environment = environment_of(of(default, "Deployment", "edge")) | {"SENDTRACE_EDGE_PORTS": "1"}
    with pytest.raises(Exception, match="SENDTRACE_EDGE_PORTS is not a setting"):
        from_environment(environment)


def test_a_number_stays_what_it_is() -> None:
    found = template(
        "--set-json", 'settings={"edge_in_flight_limit_bytes":67108864,"edge_linger_ms":0.5}'
    )
    environment = environment_of(of(found, "Deployment", "edge"))
    # Not 6.7108864e+07, as helm writes it by itself.
    assert environment["SENDTRACE_EDGE_IN_FLIGHT_LIMIT_BYTES"] == "67108864"
    assert environment["SENDTRACE_EDGE_LINGER_MS"] == "0.5"


def test_the_full_values_reach_the_processes(full: list[Object]) -> None:
    given = yaml.safe_load(FULL.read_text())["settings"]
    for _, each in workloads(full):
        settings = from_environment(environment_of(each))
        assert {name: getattr(settings, name) for name in given} == given


def test_the_ports_are_those_of_the_settings(objects: list[Object]) -> None:
    settings = Settings()
    expected = {name: settings.port(name) for name in PROCESSES - {"edge"}}
    expected["edge"] = settings.port("edge_internal")
    for component, each in workloads(objects):
        if each["kind"] == "Job":
            continue
        ports = {port["name"]: port["containerPort"] for port in container_of(each)["ports"]}
        assert ports.pop("health") == expected[component]
        assert ports == ({"webhooks": settings.port("edge")} if component == "edge" else {})


def arguments_of(objects: list[Object]) -> dict[str, list[str]]:
    return {component: container_of(each)["args"] for component, each in workloads(objects)}


def test_every_process_is_there_and_is_a_command(default: list[Object]) -> None:
    arguments = arguments_of(default)
    assert arguments.keys() == PROCESSES | {"topics", "migrate"}
    assert {name: words for name, words in arguments.items() if name in PROCESSES} == {
        name: [name] for name in PROCESSES
    }
    for words in arguments.values():
        command: Any = cli
        for word in words:
            command = command.commands[word]


ACCEPTING = ["joiner", "rollup", "loader"]


@pytest.mark.parametrize("stage", ACCEPTING)
def test_a_gap_is_accepted_by_the_stage_that_is_told_to(stage: str, default: list[Object]) -> None:
    """By no other, which may have a gap of its own that nobody has seen."""
    told = arguments_of(template("--set", f"{stage}.acceptGap=true"))
    assert told == arguments_of(default) | {stage: [stage, "--accept-gap"]}
    assert "--accept-gap" in {option for each in cli.commands[stage].params for option in each.opts}


def test_whoever_leaves_it_on_is_warned_at_each_release(full: list[Object]) -> None:
    def notes(*arguments: str) -> str:
        done = helm("install", "prod", str(CHART), "--dry-run=client", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.partition("\nNOTES:\n")[2]

    assert "Webhooks: " in notes()
    assert "acceptGap" not in notes()
    warned = re.findall(r"^WARNING: (\w+)\.acceptGap is on", notes("--values", str(FULL)), re.M)
    assert warned == ACCEPTING
    accepting = {name for name, words in arguments_of(full).items() if "--accept-gap" in words}
    assert accepting == set(ACCEPTING)


def test_no_pod_gets_variables_that_nobody_set(objects: list[Object]) -> None:
    """Of a Service named sendtrace-edge Kubernetes would make SENDTRACE_EDGE_PORT: a setting."""
    assert all(pod_of(each)["enableServiceLinks"] is False for _, each in workloads(objects))


# Secrets


def test_each_process_sees_its_own_secrets_and_no_others(full: list[Object]) -> None:
    seen = {
        component: {name for name in ("POSTGRES_DSN", "ACCOUNTS_FILE", "SENDS_TOKEN_FILE")
                    if f"SENDTRACE_{name}" in environment_of(each)}
        for component, each in workloads(full)
    }  # fmt: skip
    assert seen == {
        "edge": {"ACCOUNTS_FILE", "SENDS_TOKEN_FILE"},
        "joiner": {"ACCOUNTS_FILE"},
        "rollup": set(),
        "exporter": set(),
        "loader": {"ACCOUNTS_FILE", "POSTGRES_DSN"},  # whose currency an inbound price is in
        "migrate": {"POSTGRES_DSN"},
        "topics": set(),
    }
    for kind, component in (("StatefulSet", "joiner"), ("Deployment", "loader")):
        volumes = {v["name"]: v for v in pod_of(of(full, kind, component))["volumes"]}
        items = [item["key"] for item in volumes["accounts"]["secret"]["items"]]
        assert items == ["our-accounts.toml"], "the file with the policies, and none with a secret"


def test_the_dsn_is_never_a_value(objects: list[Object]) -> None:
    for component in ("loader", "migrate"):
        kind = "Job" if component == "migrate" else "Deployment"
        [entry] = [
            entry for entry in container_of(of(objects, kind, component))["env"]
            if entry["name"] == "SENDTRACE_POSTGRES_DSN"
        ]  # fmt: skip
        assert set(entry["valueFrom"]["secretKeyRef"]) == {"name", "key"}
    assert not [each for each in objects if each["kind"] == "Secret"]


def test_every_mount_has_its_volume(objects: list[Object]) -> None:
    for _, each in workloads(objects):
        pod, container = pod_of(each), container_of(each)
        claims = [c["metadata"]["name"] for c in each["spec"].get("volumeClaimTemplates", [])]
        volumes = [volume["name"] for volume in pod["volumes"]] + claims
        assert sorted(volumes) == sorted(mount["name"] for mount in container["volumeMounts"])
        folders = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert not any("subPath" in mount for mount in container["volumeMounts"])
        for name, value in environment_of(each).items():
            if name.endswith("_FILE"):
                assert str(Path(value).parent) in folders, name


# How pods are


def test_every_pod_is_confined(objects: list[Object]) -> None:
    for _, each in workloads(objects):
        pod, container = pod_of(each), container_of(each)
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}


def test_the_user_is_the_images(default: list[Object]) -> None:
    [user] = re.findall(r"^USER (\d+):\1$", (ROOT / "deploy/Dockerfile").read_text(), re.M)
    for _, each in workloads(default):
        context = pod_of(each)["securityContext"]
        assert {context[name] for name in ("runAsUser", "runAsGroup", "fsGroup")} == {int(user)}


def test_a_cluster_may_choose_the_user() -> None:
    for _, each in workloads(template("--set", "runAsUser=null")):
        assert pod_of(each)["securityContext"].keys() == {"runAsNonRoot", "seccompProfile"}


def test_probes_ask_the_health_port(objects: list[Object]) -> None:
    for component, each in workloads(objects):
        if component in PROCESSES:
            container = container_of(each)
            asked = {name: container[f"{name}Probe"]["httpGet"]
                     for name in ("startup", "liveness", "readiness")}  # fmt: skip
            assert {get["port"] for get in asked.values()} == {"health"}
            assert [get["path"] for get in asked.values()] == ["/livez", "/livez", "/readyz"]


@pytest.mark.parametrize("drain", ["0.5", "2.5", "30"])
def test_the_edge_has_time_to_drain(drain: str) -> None:
    found = template("--set-json", f"settings.edge_drain_seconds={drain}")
    edge = of(found, "Deployment", "edge")
    settings = from_environment(environment_of(edge))
    # Four budgets is the longest that an answer may take (ingest/app.py); 10 s the producer's stop.
    longest = settings.edge_drain_seconds + 4 * settings.edge_budget_seconds + 10
    assert pod_of(edge)["terminationGracePeriodSeconds"] > longest


def test_the_stages_keep_their_state(objects: list[Object]) -> None:
    for component in ("joiner", "rollup"):
        stage = of(objects, "StatefulSet", component)
        assert stage["spec"]["podManagementPolicy"] == "Parallel"
        folder = environment_of(stage)["SENDTRACE_DATA_DIR"]
        mounts = {m["name"]: m["mountPath"] for m in container_of(stage)["volumeMounts"]}
        assert mounts["state"] == folder
        service = of(objects, "Service", component)
        assert service["metadata"]["name"] == stage["spec"]["serviceName"]
        assert service["spec"]["clusterIP"] == "None"
        # The last transaction may take this long.
        seconds = from_environment(environment_of(stage)).transaction_timeout_ms / 1000
        assert pod_of(stage)["terminationGracePeriodSeconds"] > 2 * seconds


def selects(selector: Mapping[str, str], each: Object) -> bool:
    labels = each["spec"]["template"]["metadata"]["labels"]
    return selector.items() <= labels.items()


def test_what_selects_pods_selects_the_right_ones(objects: list[Object]) -> None:
    pods = dict(workloads(objects))
    for each in objects:
        spec = each.get("spec", {})
        found = spec.get("podSelector", spec.get("selector"))
        if each["kind"] == "Job" or found is None:
            continue
        selector = found.get("matchLabels", found)
        chosen = {name for name, pod in pods.items() if selects(selector, pod)}
        if each["kind"] == "PodMonitor":
            assert chosen >= PROCESSES
        else:
            assert chosen == {component_of(each)}, each["metadata"]["name"]


def test_every_service_port_leads_to_a_port(objects: list[Object]) -> None:
    pods = dict(workloads(objects))
    for each in objects:
        if each["kind"] == "Service":
            named = {p["name"]: p["containerPort"]
                     for p in container_of(pods[component_of(each)])["ports"]}  # fmt: skip
            for port in each["spec"]["ports"]:
                target = port.get("targetPort", port["port"])
                assert target in named or target in named.values()


def test_pods_are_scraped_once(default: list[Object], full: list[Object]) -> None:
    def scraped(each: Object) -> bool:
        annotations = each["spec"]["template"]["metadata"].get("annotations", {})
        return "prometheus.io/scrape" in annotations

    def processes(objects: list[Object]) -> list[Object]:
        return [each for name, each in workloads(objects) if name in PROCESSES]

    assert all(map(scraped, processes(default)))
    assert not any(map(scraped, processes(full)))
    [monitor] = [each for each in full if each["kind"] == "PodMonitor"]
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    relabelings = endpoint.pop("relabelings")
    assert endpoint == {"port": "health", "path": "/metrics", "interval": "30s"}
    # The jobs by whose names the alerts go.
    prometheus = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    jobs = {config["job_name"] for config in prometheus["scrape_configs"]}
    assert {job_of(each, relabelings) for each in processes(full)} == jobs
    assert all(re.fullmatch("sendtrace-.+", job) for job in jobs)


def job_of(each: Object, relabelings: list[Object]) -> str:
    """As Prometheus would name it, with the default action and regex."""
    [rule] = relabelings
    assert rule.keys() == {"sourceLabels", "targetLabel", "replacement"}
    assert rule["targetLabel"] == "job"
    labels = {
        "__meta_kubernetes_pod_label_" + re.sub(r"\W", "_", name): value
        for name, value in each["spec"]["template"]["metadata"]["labels"].items()
    }
    [source] = rule["sourceLabels"]
    job: str = rule["replacement"].replace("$1", labels[source])
    return job


def test_from_outside_only_webhooks_can_be_reached(full: list[Object]) -> None:
    [ingress] = [each for each in full if each["kind"] == "Ingress"]
    [rule] = ingress["spec"]["rules"]
    [path] = rule["http"]["paths"]
    assert (path["path"], path["pathType"]) == ("/webhooks/", "Prefix")
    assert path["backend"]["service"]["name"] == of_public_service(full)["metadata"]["name"]
    policy = of(full, "NetworkPolicy", "edge")
    anybody = [rule for rule in policy["spec"]["ingress"] if "from" not in rule]
    assert anybody == [], "the full values name who may bring webhooks"


def of_public_service(objects: list[Object]) -> Object:
    [found] = [
        each for each in objects if each["kind"] == "Service"
        and [port.get("targetPort") for port in each["spec"]["ports"]] == ["webhooks"]
    ]  # fmt: skip
    return found


def test_jobs_run_first_and_are_what_the_processes_wait_for(default: list[Object]) -> None:
    for component, each in workloads(default):
        hooks = each["metadata"].get("annotations", {}).get("helm.sh/hook")
        assert hooks == ("pre-install,pre-upgrade" if component not in PROCESSES else None)
    without = template("--set", "jobs.topics=false", "--set", "jobs.migrate=false")
    assert {component for component, _ in workloads(without)} == PROCESSES


def test_the_versions_are_the_projects() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {chart["version"], chart["appVersion"]} == {project["version"]}


def test_the_values_stand_in_their_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    known = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(schema["properties"]) - {"global"} == set(known)


# docs/deploy.md

DOCS = (ROOT / "docs/deploy.md").read_text()


def test_the_document_installs_what_the_chart_takes() -> None:
    [command] = re.findall(
        r"^helm install sendtrace deploy/helm/sendtrace(.*?)```", DOCS, re.M | re.S
    )
    arguments = shlex.split(command.replace("\\\n", " "))
    edge = of(template(*arguments), "Deployment", "edge")
    assert container_of(edge)["image"] == "registry.example/sendtrace:0.1.0"
    assert "SENDTRACE_SENDS_TOKEN_FILE" in environment_of(edge)


def test_the_values_that_the_document_names_exist() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    named = re.findall(r"`([a-z]\w+(?:\.\w+)*)(?:=\w+)?`", DOCS)
    paths = {tuple(name.split(".")) for name in named if name.split(".")[0] in schema["properties"]}
    assert len(paths) > 6
    for path in paths - {("sendtrace",), ("edge",), ("joiner",), ("loader",)}:
        found = schema
        for step in path:
            found = found["properties"][step]


def test_the_table_of_the_document_is_the_charts(default: list[Object]) -> None:
    rows = re.findall(
        r"^\| (\w+) \| (\w+), (\d+).*? \| (\d+) \| (?:drain \+ )?(\d+) s \|", DOCS, re.M
    )
    told = {name: (kind, int(n), int(port), int(grace)) for name, kind, n, port, grace in rows}
    assert told.keys() == PROCESSES
    for name, each in workloads(default):
        if name in PROCESSES:
            environment = from_environment(environment_of(each))
            drain = environment.edge_drain_seconds if name == "edge" else 0
            [port] = [p["containerPort"] for p in container_of(each)["ports"]
                      if p["name"] == "health"]  # fmt: skip
            grace = pod_of(each)["terminationGracePeriodSeconds"] - drain
            assert told[name] == (each["kind"], each["spec"]["replicas"], port, grace)
