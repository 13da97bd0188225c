"""Prometheus and Grafana: every expression asks for what the code exports, and every alert has its cases."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from cluster.metrics import METRICS, exported_name
from tests import grafana, small
from tests.ports import free_port
from tests.test_ingest_kills import members
from tests.test_profile import LOOPBACK, listening

ROOT = Path(__file__).resolve().parent.parent
RULES = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
BOARD = json.loads((GRAFANA / "dashboards" / "wordloom.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
ASKED = {
    f"{panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]
}
RECORDED = {
    rule["record"]: rule["expr"]
    for group in yaml.safe_load((RULES / "recording.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
}
ALERTS = {
    rule["alert"]: rule
    for group in yaml.safe_load((RULES / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
}
PATIENCE = 400  # seconds that any one wait may take at most
RAY = Path(sys.executable).parent / "ray"
EXPRESSIONS = {**ASKED, **RECORDED, **{name: rule["expr"] for name, rule in ALERTS.items()}}
NEEDS_PROMETHEUS = pytest.mark.skipif(
    not (shutil.which("promtool") and shutil.which("prometheus")),
    reason="promtool and prometheus are not here: `apt-get install prometheus` brings both",
)

NEEDS_CHROMIUM = pytest.mark.skipif(
    not shutil.which("chromium"), reason="no chromium is installed (apt-get install chromium)"
)


def exported() -> dict[str, set[str]]:
    """Every series that may be asked for, with the labels that we give it."""
    found: dict[str, set[str]] = {}
    for name, metric in METRICS.items():
        if metric.kind == "histogram":
            for suffix in ("sum", "count"):
                found[f"{exported_name(name)}_{suffix}"] = {*metric.labels}
            found[f"{exported_name(name)}_bucket"] = {*metric.labels, "le"}
        else:
            found[exported_name(name)] = {*metric.labels}
    # What Ray says of its nodes and processes stands in its own agent.
    agent = Path(ray.__file__).parent / "dashboard" / "modules" / "reporter" / "reporter_agent.py"
    for name in re.findall(
        r'^    "((?:node|component)_\w+)": Gauge', agent.read_text(encoding="utf-8"), re.M
    ):
        found[f"ray_{name}"] = {"ip", "Component"}
    return found


def series(expression: str) -> set[str]:
    return set(re.findall(r"\bray_\w+|\b\w+:wordloom\w*(?::\w+)?", expression))


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression_asks_only_for_what_is_exported_or_recorded(name: str) -> None:
    there, asked = exported(), series(EXPRESSIONS[name])
    assert asked <= there.keys() | RECORDED.keys()
    assert asked or "up{" in EXPRESSIONS[name]


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression_groups_and_filters_by_labels_that_are_there(name: str) -> None:
    expression, there = EXPRESSIONS[name], exported()
    labels = {
        label.strip() for listed in re.findall(r"by \(([^)]*)\)", expression) for label in listed.split(",")
    }
    labels |= set(re.findall(r"[{,]\s*(\w+)[=!]", expression))
    known = {"job"} if "up{" in expression else set()
    for each in series(expression):
        recorded = RECORDED.get(each, "")
        behind = series(recorded) or {each}
        known |= set().union(*(there[name] for name in behind))
    assert labels <= known


def test_every_metric_is_shown_and_every_recorded_rule_is_used() -> None:
    used = set().union(*(series(each) for each in EXPRESSIONS.values()))
    for name in METRICS:
        assert any(each.startswith(exported_name(name)) for each in used), name
    assert RECORDED.keys() <= set().union(
        *(series(EXPRESSIONS[name]) for name in EXPRESSIONS if name not in RECORDED)
    )


def test_every_alert_has_its_line_in_the_runbook_and_cases_that_fire_and_stay_silent() -> None:
    headings = re.findall(r"^### (\w+)\n\S", (RULES / "RUNBOOK.md").read_text(encoding="utf-8"), re.M)
    assert headings == list(ALERTS)
    fires: dict[str, set[bool]] = {name: set() for name in ALERTS}
    for case in yaml.safe_load((RULES / "alerts_test.yml").read_text(encoding="utf-8"))["tests"]:
        for each in case["alert_rule_test"]:
            fires[each["alertname"]].add(bool(each["exp_alerts"]))
    assert all(seen == {True, False} for seen in fires.values()), fires
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook"] == f"RUNBOOK.md#{name.lower()}"
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_the_dashboard_is_provisioned_with_the_data_source_that_its_panels_ask() -> None:
    (source,) = yaml.safe_load(
        (GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text(encoding="utf-8")
    )["datasources"]
    for panel in PANELS:
        assert panel["datasource"] == {"type": "prometheus", "uid": source["uid"]}
        assert panel["title"] and panel["description"].endswith(".")
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    rows = [panel["title"] for panel in BOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Ingest", "Training", "Serving", "Nodes"]
    (provider,) = yaml.safe_load(
        (GRAFANA / "provisioning" / "dashboards" / "wordloom.yml").read_text(encoding="utf-8")
    )["providers"]
    assert provider["type"] == "file" and provider["options"]["path"]


@NEEDS_PROMETHEUS
def test_promtool_accepts_configuration_and_rules_and_every_alert_case_holds(tmp_path: Path) -> None:
    # Debian's build knows no kubernetes_sd_configs: the rest of that file is checked.
    config = yaml.safe_load((RULES / "kubernetes.yml").read_text(encoding="utf-8"))
    assert config["scrape_configs"][0].pop("kubernetes_sd_configs")[0]["role"] == "pod"
    config["rule_files"] = [str(RULES / name) for name in config["rule_files"]]
    (tmp_path / "kubernetes.yml").write_text(yaml.safe_dump(config))
    queries = [{"record": f"query_{number}", "expr": each} for number, each in enumerate(ASKED.values())]
    groups = [{"name": "dashboard", "rules": queries}]
    (tmp_path / "board.yml").write_text(yaml.safe_dump({"groups": groups}))
    for command in (
        ["check", "config", "prometheus.yml"],
        ["check", "config", str(tmp_path / "kubernetes.yml")],
        ["check", "rules", str(tmp_path / "board.yml")],
        ["test", "rules", "alerts_test.yml"],
    ):
        done = subprocess.run(
            ["promtool", *command], cwd=RULES, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def running(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process with all its children, ended at the end of the block as Ctrl-C would."""
    process = subprocess.Popen(command, text=True, start_new_session=True, **options)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def answer(url: str, **query: str) -> Any:
    with urllib.request.urlopen(f"{url}?{urllib.parse.urlencode(query)}", timeout=10) as reply:
        return json.load(reply)


@dataclass(frozen=True)
class Live:
    """A main job that goes on to serve, and the Prometheus (if there is one) that watches it."""

    process: subprocess.Popen[str]
    log: Path
    port: int
    prometheus: str

    def said(self) -> str:
        return self.log.read_text()

    def until(self, what: Callable[[], bool], missing: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not what():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, f"{missing()}; the run said: {self.said()}"
            time.sleep(0.5)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("live")
    place = Path(f"/tmp/wordloom-{os.getpid()}")  # sockets below it: their paths may have 107 characters
    web, port = free_port(), free_port()
    # Ray's processes report so often, and forget what was not set again between two reports.
    environment = {**os.environ, "RAY_TMPDIR": str(place), "RAY_metrics_report_interval_ms": "3000"}
    # What deploy/README.md says, so that Ray's dashboard shows our board among its metrics.
    environment |= {
        "RAY_PROMETHEUS_HOST": f"http://127.0.0.1:{port}",
        "RAY_GRAFANA_DATA_DASHBOARD_UID": BOARD["uid"],
    }
    run = [sys.executable, "-m", "wordloom", "run", "--home", str(folder / "home"), "--serve"]
    run += ["--port", str(web), *small.ASSIGNMENTS]
    # Prometheus has to see several steps of training one after the other, at 3 s a report: half a minute on
    # an idle machine (with 240 batches an epoch it was over in 4 s, and rates had nothing to go by).
    run += ["--set", "language_model.epochs=6", "--set", "language_model.epoch_batches=1500"]
    config = yaml.safe_load((RULES / "prometheus.yml").read_text(encoding="utf-8"))
    # On a machine with other work Ray's agent may take more than a second to answer; a scrape may take as
    # long as the time between two.
    config["global"] = {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "2s"}
    config["rule_files"] = [str(RULES / name) for name in config["rule_files"]]
    (scrape,) = config["scrape_configs"]
    found = place / "ray" / "prom_metrics_service_discovery.json"
    assert f"/tmp/ray/{found.name}" in scrape["file_sd_configs"][0]["files"]
    scrape["file_sd_configs"] = [{"files": [str(found)], "refresh_interval": "1s"}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    prometheus = ["prometheus", f"--config.file={folder / 'prometheus.yml'}"]
    prometheus += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]
    log = folder / "run.log"
    try:
        with ExitStack() as stack:
            said = stack.enter_context(log.open("w"))
            environment["RAY_GRAFANA_HOST"] = stack.enter_context(
                grafana.stand_in(BOARD, f"http://127.0.0.1:{port}/api/v1")
            )
            if shutil.which("prometheus"):
                stack.enter_context(running(prometheus, stderr=subprocess.DEVNULL))
            process = stack.enter_context(running(run, env=environment, stdout=said, stderr=said))
            yield Live(process, log, web, f"http://127.0.0.1:{port}/api/v1")
    finally:
        shutil.rmtree(place, ignore_errors=True)


@pytest.mark.operate
@pytest.mark.slow
@NEEDS_PROMETHEUS
def test_prometheus_scrapes_a_live_run_and_answers_every_query_of_the_dashboard(live: Live) -> None:
    unanswered, errors = dict(ASKED), {}

    def answered() -> bool:
        _ask_a_little(live.port)
        for name, expression in list(unanswered.items()):
            try:
                result = answer(f"{live.prometheus}/query", query=expression)
            except OSError as error:  # not up yet, or a query it does not take
                errors[name] = str(error)
                continue
            if any(value["value"][1] != "NaN" for value in result["data"]["result"]):
                del unanswered[name]
        return not unanswered

    live.until(answered, lambda: f"no value for {sorted(unanswered)}; {errors}")

    def evaluated() -> bool:
        groups = answer(f"{live.prometheus}/rules")["data"]["groups"]
        assert {rule["name"] for group in groups for rule in group["rules"]} == {*RECORDED, *ALERTS}
        return {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}

    live.until(evaluated, lambda: "a rule is not evaluated")


@pytest.mark.operate
@pytest.mark.slow
@pytest.mark.browser
@NEEDS_CHROMIUM
@NEEDS_PROMETHEUS
def test_ray_s_dashboard_shows_the_stages_by_name(live: Live, tmp_path: Path) -> None:
    """Screenshots of its pages lie in pytest's temporary folder."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed (make install)"
    )
    live.until(lambda: "Serving until Ctrl-C" in live.said(), lambda: "it does not serve")
    (url,) = re.findall(r"Ray dashboard: (\S+)", live.said())
    asked = subprocess.run([str(RAY), "get-auth-token"], capture_output=True, text=True, check=True)
    token = asked.stdout.split()[-1]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-proxy-server"])
        try:
            context = browser.new_context(viewport={"width": 1400, "height": 1000})
            page = context.new_page()
            page.set_default_timeout(1e3 * PATIENCE / 4)
            refused = page.request.get(f"{url}/api/jobs/")
            assert refused.status == 401  # nobody looks in without the token
            cookie = {"name": "ray-authentication-token", "value": token, "url": url}
            context.add_cookies([cookie])

            def shown(name: str, path: str, *texts: str) -> None:
                page.goto(f"{url}/{path}")
                for text in texts:
                    page.get_by_text(text).first.wait_for()
                page.screenshot(path=tmp_path / f"{name}.png", full_page=True)

            shown("jobs", "#/jobs", "-m wordloom run", "RUNNING")
            shown("job", "#/jobs/01000000", "Ray Data Overview")
            page.get_by_text("Ray Data Overview").click()
            page.get_by_text(re.compile("^ingest_")).locator("visible=true").first.wait_for()
            page.screenshot(path=tmp_path / "job.png", full_page=True)
            shown("serve", "#/serve", "vectors", "language-model", "HEALTHY")
            # Ray's pages have none for training: the run stands among the actors, and in the dashboard's API.
            (run,) = page.request.get(f"{url}/api/train/v2/runs/v1").json()["train_runs"]
            assert run["status"] == "FINISHED"
            assert run["name"].startswith("train-embeddings-language-model-sentiment-labelling-")
            page.goto(f"{url}/#/actors")
            page.get_by_label("repr", exact=True).fill(run["name"])
            page.get_by_role("cell", name=run["name"]).first.wait_for()
            page.screenshot(path=tmp_path / "train.png", full_page=True)
            page.goto(f"{url}/#/metrics")
            page.get_by_role("tab", name="Ray Data").click()
            board = page.frame_locator("iframe[title='Ray Data Dashboard']")
            board.get_by_text(re.compile("language-model .*1$")).first.wait_for()
            for panel in PANELS:
                board.get_by_text(panel["title"], exact=True).first.wait_for()
            page.screenshot(path=tmp_path / "metrics.png", full_page=True)
        finally:
            browser.close()
    print(f"\nscreenshots: {sorted(map(str, tmp_path.glob('*.png')))}")


@pytest.mark.operate
@pytest.mark.slow
def test_a_run_that_serves_listens_on_loopback_alone(live: Live) -> None:
    live.until(lambda: "Serving until Ctrl-C" in live.said(), lambda: "it does not serve")
    there = members(live.process.pid)
    found = [each for each in listening() if each[2] in there]
    assert live.port in {port for port, _, _ in found}
    assert not [(port, there[pid]) for port, address, pid in found if address not in LOOPBACK]


def _ask_a_little(port: int) -> None:
    """One request that is answered and one that is not, so that there is something to count."""
    body = json.dumps({"seed_text": "The ", "length": 20}).encode()
    for request in (
        urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/text/generate", body, {"Content-Type": "application/json"}
        ),
        urllib.request.Request(f"http://127.0.0.1:{port}/v1/nothing"),
    ):
        try:
            urllib.request.urlopen(request, timeout=10).close()
        except (OSError, HTTPException):  # refused before it listens; 404, which is meant
            continue
