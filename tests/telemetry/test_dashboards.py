"""The dashboards in config/grafana: fresh, whole, and every query of theirs answered by a real Prometheus."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet_rollout.faces import dashboards
from tests.telemetry.conftest import Watched

FOLDER = Path(__file__).parents[2] / "config" / "grafana"
FAMILIES = sorted(path.stem for path in FOLDER.glob("*.json"))
OWN = "fleet_rollout_canary_unmeasured_total"  # counts only where something is wrong
REFERENCE = re.compile(r"\$\{(\w+)\}|\$(\w+)")
VALUES = {
    "cluster": ".*",
    "namespace": "shop",
    "target": "web",
    "service": "web",
    "ingress": "web",
    "route": "web-00002",
    "__rate_interval": "10s",
    "__range": "1m",
}
ROUTES = {"skipper": "kube_shop__web_canary__shop_example_com____web_canary_0"}


def read(family: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{family}.json").read_text())
    return found


def queries(family: str) -> Iterator[tuple[str, str, str]]:
    """Title, legend and query."""
    for panel in read(family)["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["legendFormat"], target["expr"]


def filled(family: str, text: str) -> str:
    values = VALUES | ({"route": ROUTES[family]} if family in ROUTES else {})
    return REFERENCE.sub(lambda found: values[found[1] or found[2]], text)


def test_the_files_are_what_the_queries_make_of_them() -> None:
    assert dashboards.stale(FOLDER) == []
    assert sorted(dashboards.FAMILIES) == FAMILIES


def test_the_command_writes_and_tells_what_is_stale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "grafana"
    assert dashboards.main([str(folder)]) == 0
    assert dashboards.main(["--check", str(folder)]) == 0
    (folder / "istio.json").write_text("{}")
    (folder / "kuma.json").unlink()
    (folder / "old.json").write_text("{}")
    assert dashboards.main(["--check", str(folder)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"{folder / name}: is stale: run `make dashboards`" for name in ("istio.json", "kuma.json", "old.json")
    ]
    assert dashboards.main([str(folder)]) == 0
    assert dashboards.stale(folder) == []
    assert dashboards.main([]) == 2


def test_titles_and_identities_are_all_different() -> None:
    found = [read(family) for family in FAMILIES]
    assert len({each["uid"] for each in found}) == len({each["title"] for each in found}) == len(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_dashboard_is_whole(family: str) -> None:
    found = read(family)
    assert len({panel["id"] for panel in found["panels"]}) == len(found["panels"])
    declared = {variable["name"] for variable in found["templating"]["list"]}
    assert {"cluster", "namespace", "target"} <= declared
    used = {one or other for one, other in REFERENCE.findall(json.dumps(found))}
    assert {name for name in used if not name.startswith("__")} <= declared
    assert declared - used <= {"filters"}
    places = [tuple(panel["gridPos"][side] for side in "xy") for panel in found["panels"]]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("family", FAMILIES)
async def test_every_query_is_answered_with_data(watched: Watched, family: str) -> None:
    for title, legend, query in queries(family):
        samples = await watched.query(filled(family, query))
        if OWN in query:
            continue
        assert samples, f"{title} ({legend}): {query}"
        assert all(math.isfinite(float(sample["value"][1])) for sample in samples), query


@pytest.mark.parametrize("family", FAMILIES)
async def test_what_is_shown_of_requests_is_what_happened(watched: Watched, family: str) -> None:
    """One of ten requests fails. Ten take half a second; the last bound of their buckets is 100, whatever the unit."""
    shown = {title: query for title, legend, query in queries(family) if legend == "canary"}
    (succeeded,) = await watched.query(filled(family, shown["Requests that succeeded"]))
    assert float(succeeded["value"][1]) == pytest.approx(90)
    (duration,) = (query for title, query in shown.items() if title.startswith("Time of a request"))
    (sample,) = await watched.query(filled(family, duration))
    is_quantile, is_in_seconds = "histogram_quantile" in duration, "* 1000" in duration
    expected = 50 if not is_quantile else 100_000 if is_in_seconds else 100
    assert float(sample["value"][1]) == pytest.approx(expected)


@pytest.mark.parametrize("family", FAMILIES)
async def test_every_variable_has_values_to_choose(watched: Watched, family: str) -> None:
    for variable in read(family)["templating"]["list"]:
        if variable["type"] != "query":
            continue
        selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"]).groups()
        found = {each.get(label) for each in await watched.ask("series", **{"match[]": filled(family, selector)})}
        pattern = re.compile(variable["regex"].strip("/").replace("\\/", "/") or "(.*)")
        chosen = {pattern.match(value)[1] for value in found if value and pattern.match(value)}
        name = variable["name"]
        wanted = "m1" if name == "cluster" else filled(family, f"${name}")
        assert wanted in chosen, f"{name}: {sorted(chosen)}"
