"""What is said of Secrets while they are compared, written and refused: their names (trust rows 19, 20, 31)."""

from __future__ import annotations

import base64
import json
import logging

import pytest

from fleet_rollout.decide.names import HUB_LABEL
from fleet_rollout.errors import Transient

VALUE = "correct-horse-4815"
ENCODED = base64.b64encode(VALUE.encode()).decode()


@pytest.fixture
async def by_kubectl(member, make):
    """A Secret as `kubectl apply` leaves it: its value in data, and once more in the annotation."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "namespace": make.namespace},
        "data": {"token": ENCODED},
    }
    await member.kubectl("apply", "-f", "-", stdin=json.dumps(secret))
    return secret


def without_data(secret, **fields):
    return {key: value for key, value in secret.items() if key != "data"} | fields


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({}, id="no data"),
        pytest.param({"stringData": {"token": "***"}}, id="masked"),
        pytest.param({"stringData": {"token": VALUE}}, id="the same"),
        pytest.param({"data": {"other": ENCODED}}, id="another key"),
    ],
)
async def test_t19_of_a_secret_it_is_said_whether_it_changed_and_nothing_else(
    by_kubectl, apply, make, member, caplog, content
):
    caplog.set_level(logging.DEBUG)
    lines = await apply(without_data(by_kubectl, **content))
    assert lines == [f"Secret/{make.namespace}/s configured"]
    assert (await apply(without_data(by_kubectl, **content))) == [f"Secret/{make.namespace}/s unchanged"]
    for form in (VALUE, ENCODED):
        assert form not in caplog.text


async def test_t19_a_refused_change_quotes_neither_side(by_kubectl, apply, make, member, caplog):
    caplog.set_level(logging.DEBUG)
    where = f"/api/v1/namespaces/{make.namespace}/secrets/s"
    await member.api.merge(where, {"immutable": True})
    with pytest.raises(Transient) as error:
        await apply(without_data(by_kubectl, data={"token": base64.b64encode(b"another-value-77").decode()}))
    said = f"{error.value.message} {caplog.text}"
    assert f"Secret/{make.namespace}/s dry-run failed (Invalid)" in said
    for form in (VALUE, ENCODED, "another-value-77", base64.b64encode(b"another-value-77").decode()):
        assert form not in said


async def test_t20_the_annotation_with_the_value_goes_when_the_secret_is_taken_over(by_kubectl, apply, live):
    assert ENCODED in json.dumps((await live("secrets", "s"))["metadata"])
    await apply(by_kubectl)
    assert ENCODED not in json.dumps((await live("secrets", "s"))["metadata"])


async def test_t31_labels_by_which_objects_are_known_cannot_be_set_by_content(apply, make, live, owner):
    await apply(make.config_map("c", labels=dict.fromkeys(owner.labels, "another") | {"mine": "kept"}))
    labels = (await live("configmaps", "c"))["metadata"]["labels"]
    assert labels == owner.labels | {"mine": "kept"}
    assert labels[HUB_LABEL] == owner.hub_uid
