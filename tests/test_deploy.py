"""What stands in deploy/ is what its tools accept, as far as that can be known without a cluster."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import ray
import yaml
from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE
from ray.serve.schema import ServeDeploySchema

from tests import manifests

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
OVERLAYS = ("cpu", "gpu", "ha")
VERSIONS = ("1.31", "1.36")  # the oldest and the newest Kubernetes that the manifests are held against
NEEDS_KUBECTL = pytest.mark.skipif(
    not shutil.which("kubectl"), reason="kubectl is not here; it builds the overlays (`kubectl kustomize`)"
)


def built(overlay: str) -> list[Any]:
    done = subprocess.run(
        ["kubectl", "kustomize", str(KUBERNETES / "overlays" / overlay)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def problems(manifest: Any) -> list[str]:
    """What KubeRay's schemas find wrong with a manifest."""
    found = jsonschema.Draft202012Validator(manifests.stored(manifest["kind"])).iter_errors(manifest)
    return [f"{'/'.join(map(str, each.path))}: {each.message}" for each in found]


def clusters(documents: list[Any]) -> dict[str, Any]:
    """The spec of the Ray cluster of each kind."""
    inside = {"RayCluster": (), "RayJob": ("rayClusterSpec",), "RayService": ("rayClusterConfig",)}
    found = {}
    for document in documents:
        if document["kind"] in inside:
            spec = document["spec"]
            for key in inside[document["kind"]]:
                spec = spec[key]
            found[document["kind"]] = spec
    return found


def groups(spec: Any) -> list[Any]:
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


@NEEDS_KUBECTL
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_holds_against_the_schemas_of_kubernetes_and_kuberay(overlay: str) -> None:
    documents = built(overlay)
    kinds = {document["kind"] for document in documents}
    assert kinds >= {"RayCluster", "RayJob", "RayService", "NetworkPolicy", "ServiceAccount", "ConfigMap"}
    for document in documents:
        assert document["metadata"]["namespace"] == "wordloom"
        if document["kind"] in manifests.KINDS:
            assert not problems(document)
        else:
            for version in VERSIONS:
                kubernetes_validate.validate(document, version, strict=True)


@NEEDS_KUBECTL
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_cluster_asks_for_a_token_speaks_tls_and_runs_as_nobody_special(overlay: str) -> None:
    documents = built(overlay)
    specs = clusters(documents)
    assert specs["RayCluster"] == specs["RayJob"] == specs["RayService"]
    spec = specs["RayCluster"]
    assert spec["authOptions"]["mode"] == "token" and spec["tlsOptions"]["enabled"]
    assert spec["enableInTreeAutoscaling"]
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    pods = [group["template"] for group in groups(spec)]
    (policy,) = [document for document in documents if document["kind"] == "NetworkPolicy"]
    assert policy["spec"]["policyTypes"] == ["Ingress"] and policy["spec"]["ingress"]
    (own,) = policy["spec"]["ingress"][0]["from"]
    for pod in pods:
        assert own["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
        for container in pod["spec"]["containers"]:
            assert not container["securityContext"]["allowPrivilegeEscalation"]
            assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]
            assert container["startupProbe"]
    # What is secret stands in secrets that are not here.
    assert not [document for document in documents if document["kind"] == "Secret"]
    (settings,) = [document for document in documents if document["kind"] == "ConfigMap"]
    assert settings["data"].keys() == {"WORDLOOM_HOME", "WORDLOOM_SOURCE", "WORDLOOM_WORKERS"}


@NEEDS_KUBECTL
def test_gpu_and_ha_add_what_their_names_say() -> None:
    gpu = clusters(built("gpu"))["RayCluster"]["workerGroupSpecs"]
    assert [group["groupName"] for group in gpu] == ["cpu", "gpu"]
    (worker,) = gpu[1]["template"]["spec"]["containers"]
    assert worker["image"] == "wordloom:gpu" and worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    (job,) = [document for document in built("gpu") if document["kind"] == "RayJob"]
    assert "--device gpu" in job["spec"]["entrypoint"]
    documents = built("ha")
    spec = clusters(documents)["RayService"]
    assert (
        spec["gcsFaultToleranceOptions"]["redisAddress"] and spec["workerGroupSpecs"][0]["minReplicas"] == 2
    )
    assert [each["kind"] for each in documents].count("PodDisruptionBudget") == 2


def test_a_misspelt_field_is_found() -> None:
    cluster = yaml.safe_load((KUBERNETES / "base" / "cluster.yaml").read_text(encoding="utf-8"))
    assert not problems(cluster)
    cluster["spec"]["authOptions"]["secret"] = "x"
    cluster["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["imagee"] = "x"
    cluster["spec"]["workerGroupSpecs"][0]["maxReplicas"] = "many"
    found = problems(cluster)
    assert len(found) == 3 and any("'imagee'" in each for each in found)


def test_jobs_and_replicas_run_commands_that_there_are() -> None:
    import wordloom

    job = yaml.safe_load((KUBERNETES / "base" / "job.yaml").read_text(encoding="utf-8"))
    words = shlex.split(job["spec"]["entrypoint"])
    settings = {"$WORDLOOM_HOME": "s3://b/h", "$WORDLOOM_SOURCE": "x", "$WORDLOOM_WORKERS": "16"}
    assert words[:3] == ["python", "-m", "wordloom"]
    options = wordloom.command_line().parse([settings.get(word, word) for word in words[3:]])
    assert (options.home, options.workers) == ("s3://b/h", 16)
    for unit in sorted((DEPLOY / "systemd").glob("*.service")):
        (start,) = re.findall(r"^ExecStart=\S+/wordloom (.*)$", unit.read_text(encoding="utf-8"), re.M)
        assert wordloom.command_line().parse(start.split()).command


def test_prometheus_finds_the_ray_of_each_unit_of_systemd() -> None:
    """A unit with a /tmp of its own has no file there that others read."""
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    asked = config["scrape_configs"][0]["file_sd_configs"][0]["files"]
    for unit in (DEPLOY / "systemd").glob("*.service"):
        lines = unit.read_text(encoding="utf-8").splitlines()
        (place,) = [line.removeprefix("Environment=RAY_TMPDIR=") for line in lines if "RAY_TMPDIR=" in line]
        assert f"CacheDirectory={place.removeprefix('/var/cache/')}" in lines
        assert f"{place}/ray/{PROMETHEUS_SERVICE_DISCOVERY_FILE}" in asked
        # Ray makes sockets below it, whose paths may have 107 characters.
        session = f"{place}/ray/session_2026-11-28_13-35-48_123456_1234567"
        assert len(f"{session}/sockets/plasma_store.1") <= 107


def test_the_served_application_is_one_that_serve_accepts_here_and_on_kubernetes() -> None:
    here = yaml.safe_load((DEPLOY / "serve.yaml").read_text(encoding="utf-8"))
    service = yaml.safe_load((KUBERNETES / "base" / "service.yaml").read_text(encoding="utf-8"))
    there = yaml.safe_load(service["spec"]["serveConfigV2"])
    for config in (here, there):
        ServeDeploySchema.model_validate(config)
    for application in here["applications"] + there["applications"]:
        application["args"].pop("models")
    assert here["http_options"].pop("host") == "127.0.0.1"
    assert there["http_options"].pop("host") == "0.0.0.0"
    assert here == there


def test_ray_up_accepts_its_file() -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    config = yaml.safe_load((DEPLOY / "ray-up.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(config, schema)
    assert all(
        "RAY_AUTH_MODE=token" in each
        for each in (config["head_start_ray_commands"][-1], config["worker_start_ray_commands"][-1])
    )


def test_the_image_is_pinned_and_its_locks_agree_with_the_tests() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    targets = re.findall(r"^FROM \S+ AS (\w[\w-]*)", dockerfile, re.MULTILINE)
    assert {"cpu", "gpu"} <= set(targets) and targets[-1] == "cpu"
    assert re.findall(r"^USER (\d+)", dockerfile, re.MULTILINE) == ["1000"]
    installs = re.findall(r"pip install (.*)", dockerfile)
    assert installs and all("--require-hashes" in each for each in installs)
    sent = re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    copied = {
        name for line in re.findall(r"^COPY (?!--)(.*) \S+$", dockerfile, re.M) for name in line.split()
    }
    assert copied == set(sent)
    tested = pins(ROOT / "requirements.lock")
    for name in ("cpu", "gpu"):
        for package, versions in pins(DEPLOY / f"{name}.lock").items():
            assert package.startswith("nvidia-") or versions <= tested[package], package
    assert any(package.startswith("nvidia-cudnn") for package in pins(DEPLOY / "gpu.lock"))
    assert not {"pytest", "moto", "mypy"} & pins(DEPLOY / "cpu.lock").keys()


def pins(lock: Path) -> dict[str, set[str]]:
    """The versions of each package; several where they differ by Python."""
    found: dict[str, set[str]] = {}
    text = lock.read_text(encoding="utf-8")
    for name, version in re.findall(
        r"^([a-z0-9][a-z0-9._-]*)(?:\[[^]]*\])?==([^\s;\\]+)", text, re.MULTILINE
    ):
        found.setdefault(name, set()).add(version)
    return found


@pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd-analyze is not here (package systemd)"
)
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for unit in (DEPLOY / "systemd").iterdir():
        text = unit.read_text(encoding="utf-8")
        installed = text.replace("/opt/wordloom/.venv/bin/wordloom", shutil.which("true") or "")
        (tmp_path / unit.name).write_text(installed)
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.real_data
def test_the_stored_schemas_are_those_of_the_definitions(data: Path) -> None:
    for kind, plural in manifests.KINDS.items():
        text = (data / "kuberay-crds" / f"ray.io_{plural}.yaml").read_text(encoding="utf-8")
        assert manifests.crd_schema(text) == manifests.stored(kind)
