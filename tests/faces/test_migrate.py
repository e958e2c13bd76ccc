"""`fleet-rollout migrate` on files as people have them: comments and other documents stay, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_rollout.faces.cli.main import main

# The older guide's autoscaler and Canary, comments included.
GUIDE = """\
# kubectl apply -f ./podinfo.yaml
apiVersion: autoscaling/v2beta1
kind: HorizontalPodAutoscaler
metadata:
  name: podinfo
  namespace: test
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: podinfo
  minReplicas: 2
  maxReplicas: 4
  metrics:
  - type: Resource
    resource:
      name: cpu
      # scale up if usage is above
      # 99% of the requested CPU (100m)
      targetAverageUtilization: 99  # percent
  # requests are counted by the mesh
  - type: Pods
    pods:
      metricName: 'requests'   # of istio
      targetAverageValue: 1k

  # nothing else
---
apiVersion: v1
kind:   ConfigMap
data: { "odd" :   "layout" }   # stays
---
apiVersion: "flagger.app/v1alpha3"
kind: Canary
metadata: {name: podinfo, namespace: test}
spec:
  targetRef: {apiVersion: apps/v1, kind: Deployment, name: podinfo}
  # HPA reference (optional)
  autoscalerRef:
    apiVersion: autoscaling/v2beta1
    kind: HorizontalPodAutoscaler
    name: podinfo
  service:
    port: 9898
  canaryAnalysis:
    # schedule interval (default 60s)
    interval: 10s
    threshold: 5
"""
MIGRATED = (
    GUIDE.replace("apiVersion: autoscaling/v2beta1", "apiVersion: autoscaling/v2")
    .replace(
        "      targetAverageUtilization: 99  # percent\n",
        "      target:\n        type: Utilization\n        averageUtilization: 99  # percent\n",
    )
    .replace(
        "      metricName: 'requests'   # of istio\n      targetAverageValue: 1k\n",
        "      metric:\n        name: requests\n      target:\n        type: AverageValue\n        averageValue: 1k\n",
    )
    .replace('"flagger.app/v1alpha3"', '"flagger.app/v1beta1"')
    .replace("canaryAnalysis:", "analysis:")
)


def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["migrate", *arguments], input=stdin)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "podinfo.yaml"
    path.write_text(GUIDE)
    return path


def test_the_guides_file_is_printed_as_clusters_take_it_today(file):
    done = run(str(file))
    assert done.exit_code == 0
    assert done.stdout == MIGRATED
    assert file.read_text() == GUIDE
    assert done.stderr.splitlines() == [
        f"{file}: document 1 (HorizontalPodAutoscaler test/podinfo): rewritten",
        f"{file}: document 3 (Canary test/podinfo): rewritten",
    ]


def test_standard_input_is_a_file_too():
    done = run("-", stdin=GUIDE)
    assert (done.exit_code, done.stdout) == (0, MIGRATED)
    assert "standard input: document 1" in done.stderr
    assert run("-", "-i", stdin=GUIDE).exit_code == 2


def test_in_place_the_file_is_written_once(file):
    assert run("-i", str(file)).stdout == ""
    assert file.read_text() == MIGRATED
    before = file.stat().st_mtime_ns
    again = run("--in-place", str(file))
    assert (again.exit_code, again.output, file.stat().st_mtime_ns) == (0, "", before)


def test_lines_end_as_they_did():
    done = run("-", stdin=GUIDE.replace("\n", "\r\n").encode())
    assert done.stdout_bytes == MIGRATED.replace("\n", "\r\n").encode()


def test_json_stays_json():
    documents = list(yaml.safe_load_all(GUIDE))
    done = run("-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}))
    assert json.loads(done.stdout)["items"] == list(yaml.safe_load_all(MIGRATED))


def test_what_stands_between_braces_stays_there():
    text = (
        "apiVersion: autoscaling/v2beta1\nkind: HorizontalPodAutoscaler\nspec:\n  metrics:\n"
        "  - {type: Resource, resource: {name: cpu, targetAverageUtilization: 80}} # ,\n"
        "  - type: External\n    external: {metricName: q, targetValue: 30}\n"
        "status:\n  currentMetrics: []\n"
    )
    assert run("-", stdin=text).stdout == (
        "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nspec:\n  metrics:\n"
        '  - {type: Resource, resource: {name: cpu, "target": {"type": "Utilization", "averageUtilization": 80}}} # ,\n'
        '  - type: External\n    external: {"metric": {"name": "q"}, "target": {"type": "Value", "value": 30}}\n'
        "status:\n  {}\n"
    )


def test_an_anchor_that_others_use_is_changed_where_it_is():
    text = "base: &b {apiVersion: flagger.app/v1alpha3}\n<<: *b\nkind: Canary\n"
    assert run("-", stdin=text).stdout == text.replace("v1alpha3", "v1beta1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a: 1\n---\na: [\n",
            "standard input: document 2: line 4: expected the node content, but found '<stream end>'",
        ),
        ("a: \x07\n", "standard input: document 1: unacceptable character #x0007"),
        ("a: *b\n", "standard input: document 1: line 1: found undefined alias 'b'"),
        (
            "apiVersion: &v flagger.app/v1alpha3\nkind: Canary\n",
            "document 1: apiVersion: has an anchor, an alias or a tag; write it without",
        ),
        (
            "x: &n 80\napiVersion: autoscaling/v2beta1\nkind: HorizontalPodAutoscaler\nspec: {metrics: "
            "[{type: Resource, resource: {name: cpu, targetAverageUtilization: *n}}]}\n",
            "document 1: spec.metrics[0].resource.targetAverageUtilization: has an anchor, an alias or a tag",
        ),
        (
            "---\n---\napiVersion: autoscaling/v2beta1\nkind: HorizontalPodAutoscaler\nmetadata: {name: a}\n"
            "spec: {metrics: [{type: Cpu}]}\n--- {spec: [}\n",
            "standard input: document 2 (HorizontalPodAutoscaler a): spec.metrics[0].type: 'Cpu' is no type of metric",
        ),
    ],
)
def test_what_cannot_be_rewritten_is_named_and_nothing_is_printed(text, message):
    done = run("-", stdin=text)
    assert done.exit_code == 1
    assert message in done.stderr
    assert done.stdout == ""


def test_all_faults_are_told_and_the_file_stays_as_it_is(file):
    broken = GUIDE.replace("Resource", "Cpu").replace("  service:", "  analysis: {}\n  service:")
    file.write_text(broken)
    done = run("-i", str(file))
    assert done.exit_code == 1
    assert "document 1 (HorizontalPodAutoscaler test/podinfo): spec.metrics[0].type: 'Cpu'" in done.stderr
    assert "document 3 (Canary test/podinfo): spec.canaryAnalysis: spec.analysis is there too" in done.stderr
    assert file.read_text() == broken


def test_a_file_that_is_not_text_is_named(file):
    file.write_bytes(b"a: \xff")
    assert f"{file}: byte 3 is not UTF-8; save the file as UTF-8" in run(str(file)).stderr
    assert run(str(file.parent / "missing.yaml")).exit_code == 2


SCALARS = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "Zs"]), max_size=8)
MANIFESTS = st.dictionaries(st.sampled_from(["a", "kind", "spec", "metadata"]), SCALARS | st.lists(SCALARS), max_size=3)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.lists(MANIFESTS, max_size=4), st.booleans())
def test_documents_that_need_nothing_stay_byte_by_byte(others: list[dict[str, Any]], flow: bool):
    texts = [yaml.safe_dump(each, default_flow_style=flow) for each in others]
    guide = "---\n".join([*texts, GUIDE, *texts])
    assert run("-", stdin=guide).stdout == "---\n".join([*texts, MIGRATED, *texts])


EVERY_METRIC = """\
apiVersion: autoscaling/v2beta1
kind: HorizontalPodAutoscaler
metadata: {name: every-metric}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: podinfo}
  maxReplicas: 4
  metrics:
  - type: Resource
    resource: {name: cpu, targetAverageUtilization: 80}
  - type: Resource
    resource:
      name: memory
      targetAverageValue: 200Mi
  - type: ContainerResource
    containerResource: {name: cpu, container: web, targetAverageUtilization: 60}
  - type: Pods
    pods:
      metricName: packets
      selector: {matchLabels: {verb: get}}
      targetAverageValue: 1k
  - type: Object
    object:
      target: {apiVersion: networking.k8s.io/v1, kind: Ingress, name: main}
      metricName: requests
      targetValue: "100"
  - type: External
    external:
      metricName: mails
      metricSelector:
        matchExpressions:
        - {key: queue, operator: In, values: [a, b]}
      targetAverageValue: "30"
"""


async def test_an_api_server_takes_every_form_of_a_metric_strictly(hub):
    scaler = yaml.safe_load(run("-", stdin=EVERY_METRIC).stdout)
    path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
    stored = await hub.api.request("POST", path, scaler, params={"dryRun": "All", "fieldValidation": "Strict"})
    assert stored["spec"]["metrics"] == scaler["spec"]["metrics"]
    assert [metric["type"] for metric in stored["spec"]["metrics"]].count("Resource") == 2


def test_t42_what_is_told_of_a_manifest_cannot_move_the_cursor(tmp_path: Path) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text('apiVersion: flagger.app/v1alpha3\nkind: Canary\nmetadata: {name: "a\\e[2J\\u202E"}\nspec: {}\n')
    result = CliRunner().invoke(main, ["migrate", str(file)])
    assert "\x1b" not in result.stderr
    assert "\u202e" not in result.stderr
    assert "a\\x1b[2J\\u202e" in result.stderr
