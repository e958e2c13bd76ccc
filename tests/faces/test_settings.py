"""Flags and variables of Settings that cannot be meant are refused, by name, before anything starts."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

import click
import pytest
from click.testing import CliRunner

from fleet_rollout.faces import service
from fleet_rollout.faces.cli.agent import agent
from fleet_rollout.faces.cli.controller import controller
from fleet_rollout.faces.cli.receiver import receiver
from fleet_rollout.settings import Settings

COMMANDS = {command.name: command for command in (agent, controller, receiver)}
DURATIONS = [name for name, kind in typing.get_type_hints(Settings).items() if kind is float]
COUNTS = [name for name, kind in typing.get_type_hints(Settings).items() if kind is int]
OPTIONS = {option.name: option for option in controller.params if isinstance(option, click.Option)}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """What was started."""
    found: list[Settings] = []

    def serve(settings: Settings, health: Any, work: Any) -> int:
        found.append(settings)
        return 0

    monkeypatch.setattr(service, "serve", serve)
    return found


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("name", "value"), [("log-level", "verbose"), ("log-format", "xml")])
def test_a_log_that_there_is_not_is_refused(served: list[Settings], command: str, name: str, value: str) -> None:
    variable = f"FLEET_ROLLOUT_{name.replace('-', '_').upper()}"
    for flags, environment in (([f"--{name}={value}"], {}), ([], {variable: value})):
        result = CliRunner().invoke(COMMANDS[command], flags, env=environment)
        assert (result.exit_code, served) == (2, [])
        assert f"--{name}" in result.output
        assert "is not one of" in result.output


@pytest.mark.parametrize("name", COUNTS)
def test_a_count_of_none_is_refused(served: list[Settings], name: str) -> None:
    """A number of workers that is 0 would start none, a limit of 0 would let nothing pass: neither says so."""
    flag = f"--{name.replace('_', '-')}"
    for flags, environment in (([f"{flag}=0"], {}), ([], {f"FLEET_ROLLOUT_{name.upper()}": "-1"})):
        result = CliRunner().invoke(controller, flags, env=environment)
        assert (result.exit_code, served) == (2, [])
        assert flag in result.output


@pytest.mark.parametrize("name", DURATIONS)
@pytest.mark.parametrize("value", ["-1", "nan", "inf"])
def test_a_duration_that_never_passes_is_refused(served: list[Settings], name: str, value: str) -> None:
    flag = f"--{name.replace('_', '-')}"
    result = CliRunner().invoke(controller, [f"{flag}={value}"])
    assert (result.exit_code, served) == (2, [])
    assert flag in result.output


@pytest.mark.parametrize("command", [agent, controller], ids=["agent", "controller"])
@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--lease-renew-deadline=15"], "--lease-renew-deadline (15) must be less than --lease-duration (15)"),
        (["--lease-duration=10.4"], "--lease-renew-deadline (10) must be less than --lease-duration (10)"),
        (["--lease-retry=10"], "--lease-retry (10) must be less than --lease-renew-deadline (10)"),
    ],
)
def test_a_lease_that_two_may_hold_is_refused(
    served: list[Settings], command: click.Command, flags: list[str], says: str
) -> None:
    """The deadline has to come before others take the Lease, who are told its duration in whole seconds."""
    result = CliRunner().invoke(command, flags)
    assert (result.exit_code, served) == (2, [])
    assert says in result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_a_level_may_be_written_in_capitals(served: list[Settings], command: str) -> None:
    result = CliRunner().invoke(COMMANDS[command], ["--log-level=DEBUG"])
    assert result.exit_code == 0, result.output
    assert served[-1].log_level == "debug"


def test_every_field_is_a_flag_and_keeps_its_default(served: list[Settings]) -> None:
    assert OPTIONS.keys() >= {field.name for field in dataclasses.fields(Settings)}
    result = CliRunner().invoke(controller, ["--workers=1"])
    assert result.exit_code == 0, result.output
    assert served == [Settings(workers=1)]
