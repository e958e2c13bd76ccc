"""Every conformance scenario of the Flagger reference (its section 10), and one for each further fixed quirk.

Ticks 1 and 2 create and initialise the primary; before tick 3 the image changes. `×3` stands for "for ever".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.conformance.manifests import (
    AFFINITY,
    ALERT_PROVIDER,
    HPA,
    HPA_REFERENCE,
    INGRESS,
    MATCH,
    METRIC_TEMPLATE,
    NGINX,
    every_hook,
    hooked,
)
from tests.conformance.scenario import Http, Inputs, Object, Ready, Scenario

HAPPY = "Pg 0 100:0 → Pg 20 80:20 → Pg 40 60:40 → Pg 60 40:60 → Pm 60 → Fn 0 100:0 → Su"
NAN = float("nan")


def analysis(**changes: Any) -> Object:
    return {"analysis": changes}


def iterations(count: int, **changes: Any) -> Object:
    """A number of checks instead of weights."""
    return analysis(iterations=count, stepWeight=None, maxWeight=None, **changes)


def weights(*steps: int) -> Object:
    return analysis(stepWeights=list(steps), stepWeight=None, maxWeight=None)


def bad(*ticks: int, until: int) -> dict[int, Inputs]:
    """Success rates of 90 % at some ticks, in order, and of 100 % again from `until` on."""
    return {**{tick: Inputs(metric=90.0) for tick in ticks}, until: Inputs(metric=100.0)}


def answers(**by_tick: Mapping[str, int]) -> dict[int, Inputs]:
    """Answers of hooks: `answers(t3={"gate": 403})`."""
    return {int(tick[1:]): Inputs(hooks=found) for tick, found in by_tick.items()}


WEIGHTED = (
    Scenario(
        "S1",
        "the happy path",
        f"{HAPPY} ×2",
        events={
            3: ["New revision detected! Scaling up podinfo."],
            4: ["Starting canary analysis for podinfo.", "canary weight 20"],
            5: ["canary weight 40"],
            6: ["canary weight 60"],
            7: ["template spec to podinfo-primary."],
            8: ["Routing all traffic to primary"],
            9: ["Promotion completed! Scaling down podinfo."],
            10: [],
        },
        alerts={
            3: ["New revision detected, progressing canary analysis."],
            4: [],
            8: [],
            9: ["Canary analysis completed successfully, promotion finished."],
        },
    ),
    Scenario(
        "S2",
        "steps are not cut to the maximum",
        "Pg 0 100:0 → Pg 30 70:30 → Pg 60 40:60 → Pm 60 → Fn 0 100:0 → Su",
        analysis(stepWeight=30, maxWeight=50),
    ),
    Scenario(
        "S3",
        "the maximum is 100 where none is given",
        "Pg 0 100:0 → Pg 40 60:40 → Pg 80 20:80 → Pg 100 0:100 → Pm 100 → Fn 0 100:0 → Su",
        analysis(stepWeight=40, maxWeight=None),
    ),
    Scenario(
        "S4",
        "a list of weights",
        "Pg 0 100:0 → Pg 1 99:1 → Pg 10 90:10 → Pg 40 60:40 → Pg 80 20:80 → Pm 80 → Fn 0 100:0 → Su",
        weights(1, 10, 40, 80),
    ),
    Scenario(
        "S6",
        "a step and a list: the step grows, the list limits",
        "Pg 0 100:0 → Pg 15 85:15 → Pg 30 70:30 → Pg 45 55:45 → Pg 60 40:60 → Pm 60 → Fn 0 100:0 → Su",
        analysis(stepWeight=15, stepWeights=[5, 20, 50], maxWeight=None),
        is_real=False,
    ),
    Scenario(
        "S7",
        "a list that falls",
        "Pg 0 100:0 → Pg 10 90:10 → Pg 60 40:60 → Pg 60 ×3",
        weights(10, 60, 30),
        events={6: [], 7: []},
        own="In 0 100:0 ×6",
        quirks=("Q8",),
    ),
    Scenario(
        "S8",
        "no step at all",
        "Pg 0 100:0 ×4",
        analysis(stepWeight=0, maxWeight=None),
        events={4: ["Starting canary analysis for podinfo."], 6: ["Starting canary analysis for podinfo."]},
    ),
    Scenario(
        "S9",
        "two failed checks, and a new image after the rollback",
        "Pg 0 100:0 → Pg 20 80:20 → Pg 20/1 → Pg 20/2 → Fa 0 100:0 ×2 → Pg 0 → Pg 20 80:20",
        inputs={**bad(5, until=7), 9: Inputs(revision="3")},
        events={
            5: ["Halt podinfo."],
            7: ["failed checks threshold reached 2", "Canary failed! Scaling down podinfo."],
            8: [],
        },
        alerts={6: [], 7: ["Failed checks threshold reached 2"], 8: []},
        quirks=("Q1", "Q16"),
    ),
    Scenario(
        "S11",
        "a threshold of 0 acts as 1",
        "Pg 0 100:0 → Pg 20 80:20 → Pg 20/1 → Fa 0 100:0",
        analysis(threshold=0),
        inputs=bad(5, until=6),
    ),
    Scenario(
        "S13",
        "errors and no values of the metrics server are failed checks",
        "Pg 0 100:0 → Pg 20 80:20 → Pg 20/1 → Pg 20/2 → Fa 0 100:0",
        inputs={5: Inputs(metric=Http(500)), 6: Inputs(metric=NAN)},
        events={
            5: ["Prometheus query failed"],
            6: ["Halt advancement no values found for istio metric request-success-rate"],
        },
    ),
    Scenario("S15", "no metrics: nobody is asked", HAPPY, analysis(metrics=[])),
    Scenario(
        "S25",
        "another image during the analysis",
        "Pg 0 100:0 → Pg 20 80:20 → Pg 40 60:40 → Pg 0 100:0 → Pg 20 80:20 → Pg 40 60:40 → Pg 60 40:60 → Pm 60 "
        "→ Fn 0 100:0 → Su",
        inputs={6: Inputs(revision="3")},
        events={6: ["New revision detected! Restarting analysis for podinfo."]},
    ),
    Scenario(
        "S26",
        "back to the promoted image during the analysis",
        f"{HAPPY} → Pg 0",
        inputs={5: Inputs(revision="1")},
        own="Pg 0 100:0 → Pg 20 80:20 → In 0 100:0 ×6",
        quirks=("Q5",),
    ),
    Scenario("S28", "a tracked ConfigMap changes", HAPPY, inputs={3: Inputs(config="blue")}, has_config=True),
    Scenario(
        "S59",
        "progressive promotion, and routes that are at the primary already",
        "Pg 0 100:0 → Pg 20 80:20 → Pg 40 60:40 → Pg 60 40:60 → Pm 60 → Pm 60 100:0 ×3",
        analysis(stepWeightPromotion=40),
        inputs={8: Inputs(routes=(100, 0))},
        own="Pg 0 100:0 → Pg 20 80:20 → Pg 40 60:40 → Pg 60 40:60 → Pm 60 → Fn 0 100:0 → Su ×2",
        quirks=("Q6",),
    ),
)

COUNTED = (
    Scenario(
        "S17",
        "blue/green",
        "Pg 0 100:0 → it1 → it2 → it3 0:100 → Pm it3 → Fn 0 100:0 → Su",
        iterations(2),
        events={
            4: ["Starting canary analysis", "canary iteration 1/2"],
            5: ["canary iteration 2/2"],
            6: ["Routing all traffic to canary"],
        },
    ),
    Scenario(
        "S18",
        "blue/green, promoted step by step",
        "Pg 0 100:0 → it1 → it2 0:100 → Pm it2 → Pm w60 it2 40:60 → Pm w20 it2 80:20 → Fn 0 100:0 → Su",
        iterations(1, stepWeightPromotion=40),
        events={7: ["primary weight 40"], 8: ["primary weight 80"], 9: ["primary weight 100"]},
    ),
    Scenario(
        "S19",
        "blue/green without a mesh",
        "Pg 0 → it1 → it2 → it3 → Pm it3 → Fn 0 → Su",
        {"provider": "kubernetes", **iterations(2)},
        events={6: [], 8: []},
    ),
    Scenario(
        "S20",
        "weights without a mesh become ten checks",
        "Pg 0 → it1 → it2 → it3 → it4 → it5 → it6 → it7 → it8 → it9 → it10 → it11 → Pm it11 → Fn 0 → Su",
        {"provider": "kubernetes"},
        events={
            4: [
                "Starting canary analysis",
                "Progressive traffic is not supported when using the kubernetes provider",
                "Setting canaryAnalysis.iterations: 10",
                "canary iteration 1/10",
            ],
        },
    ),
    Scenario(
        "S21",
        "A/B testing",
        "Pg 0 100:0 → it1 0:100 → it2 → Pm it2 → Fn 0 100:0 → Su",
        iterations(2, match=MATCH),
    ),
    Scenario(
        "S23",
        "blue/green with mirrored requests",
        "Pg 0 100:0 → it1 100:0m → it2 → it3 0:100 → Pm it3 → Fn 0 100:0 → Su",
        iterations(2, mirror=True),
        events={6: ["Stop traffic mirroring and route all traffic to canary"]},
    ),
    Scenario(
        "S23-weights",
        "weights after one check with mirrored requests",
        "Pg 0 100:0 → Pg 0 100:0m → Pg 20 80:20 → Pg 40 60:40 → Pg 60 40:60 → Pm 60 → Fn 0 100:0 → Su",
        analysis(mirror=True),
        events={4: ["Starting canary analysis", "canary weight 0"]},
    ),
    *(
        Scenario(
            f"S24-{name}",
            "mirroring where the router cannot",
            "Pg 0 100:0 ×4",
            {**spec, **analysis(mirror=True)},
            events={4: ["Starting canary analysis", "canary weight 0"], 5: ["Starting canary", "canary weight 0"]},
            own="Pg 0 100:0 → Pg 20 80:20 → Pg 40 60:40 → Pg 60 40:60",
            quirks=("Q7",),
            objects=objects,
        )
        for name, spec, objects in (
            ("nginx", NGINX, (INGRESS,)),
            ("gatewayapi", {"provider": "gatewayapi:v1", "service": {"gatewayRefs": [{"name": "public"}]}}, ()),
        )
    ),
    Scenario(
        "S60",
        "nginx by weights",
        HAPPY,
        NGINX,
        objects=(INGRESS,),
    ),
    Scenario(
        "S60-match",
        "nginx by header and cookie",
        "Pg 0 100:0 → it1 0:100 → it2 → Pm it2 → Fn 0 100:0 → Su",
        {
            **NGINX,
            **iterations(2, match=[*MATCH, {"headers": {"cookie": {"exact": "insider"}}}]),
        },
        objects=(INGRESS,),
    ),
)

NOT_READY = "canary deployment podinfo."
PRIMARY_NOT_READY = "podinfo-primary."

READINESS = (
    *(
        Scenario(
            name,
            "a canary that never gets ready",
            "Pg 0 100:0 → Pg 0 ×2 → Fa 0 ×2",
            inputs={4: Inputs(canary=Ready.UNREADY), 6: Inputs(canary=stuck)},
            events={4: [NOT_READY], 5: [NOT_READY], 6: [NOT_READY, "Canary failed! Scaling down podinfo."]},
            alerts={4: [], 6: []},
            quirks=("alert",),
        )
        for name, stuck in (("S29", Ready.STUCK), ("S29-deadline", Ready.UNAVAILABLE))
    ),
    Scenario(
        "S30",
        "the primary breaks while it is promoted",
        "Pg 0 100:0 → Pg 20 80:20 → Pg 40 60:40 → Pg 60 40:60 → Pm 60 → Fa 100 0:100 r1 ×2 → Pg 0 0:100 → Pm 0 "
        "→ Fn 0 100:0 → Su",
        inputs={8: Inputs(primary=Ready.STUCK), 10: Inputs(primary=Ready.READY, revision="3")},
        events={8: [PRIMARY_NOT_READY, "Promotion of podinfo."], 9: []},
        alerts={8: ["Promotion failed, primary not ready"]},
        own="Pg 0 100:0 → Pg 20 80:20 → Pg 40 60:40 → Pg 60 40:60 → Pm 60 → Fa 100 0:100 r1 ×2 → Pg 0 100:0 "
        "→ Pg 20 80:20 → Pg 40 60:40 → Pg 60 40:60",
        quirks=("Q3", "Q21"),
    ),
    Scenario(
        "S32",
        "the primary is unready, then stuck, during the analysis",
        "Pg 0 100:0 → Pg 20 80:20 → Pg 20 → Fa 0 100:0",
        inputs={5: Inputs(primary=Ready.UNREADY), 6: Inputs(primary=Ready.STUCK)},
        events={5: [PRIMARY_NOT_READY], 6: [PRIMARY_NOT_READY, "Canary failed! Scaling down podinfo."]},
        alerts={6: []},
        quirks=("alert",),
    ),
    Scenario(
        "S33",
        "a new image while the primary is stuck",
        "In 0 100:0 → Fa 0 ×4",
        inputs={3: Inputs(primary=Ready.STUCK), 4: Inputs(revision="2"), 6: Inputs(primary=Ready.READY)},
        is_idle=True,
        own="In 0 100:0 ×3 → Pg 0 → Pg 20 80:20",
        quirks=("Q2",),
    ),
    Scenario(
        "S33-unready",
        "a new image while the primary is not ready yet",
        "In 0 100:0 ×2 → Pg 0 → Pg 20 80:20",
        inputs={3: Inputs(revision="2", primary=Ready.UNREADY), 5: Inputs(primary=Ready.READY)},
        events={3: [PRIMARY_NOT_READY], 4: [PRIMARY_NOT_READY], 5: ["New revision detected! Scaling up podinfo."]},
    ),
    Scenario(
        "S34",
        "a new image after a rollback, while the primary is not ready",
        "Pg 0 100:0 → Pg 20 80:20 → Pg 20/1 → Pg 20/2 → Fa 0 100:0 ×4",
        inputs={
            5: Inputs(metric=90.0),
            7: Inputs(metric=100.0),
            8: Inputs(revision="3", primary=Ready.UNREADY),
            9: Inputs(primary=Ready.READY),
        },
        own="Pg 0 100:0 → Pg 20 80:20 → Pg 20/1 → Pg 20/2 → Fa 0 100:0 ×2 → Pg 0 → Pg 20 80:20",
        quirks=("Q1",),
    ),
    Scenario(
        "S35",
        "back to the promoted image after a rollback, then the failed one again",
        "Pg 0 100:0 → Pg 20 80:20 → Pg 20/1 → Pg 20/2 → Fa 0 100:0 ×2 → Pg 0",
        inputs={**bad(5, until=7), 8: Inputs(revision="1"), 9: Inputs(revision="2")},
        quirks=("Q1",),
    ),
    Scenario(
        "S49",
        "the first primary gets stuck, then ready",
        "Ig 0 100:0 ×2 → In 0",
        inputs={2: Inputs(primary=Ready.STUCK), 3: Inputs(primary=Ready.READY)},
        events={2: ["all the metrics providers are available!", PRIMARY_NOT_READY, ""]},
        first=1,
        is_idle=True,
        quirks=("Q12",),
    ),
    Scenario(
        "S49-kubernetes",
        "the first primary gets stuck, then ready, without a mesh",
        "Ig 0 → Fa 0 ×2 → Pg 0 → it1 → it2 → it3 → Pm it3 → Fn 0 → Su",
        {"provider": "kubernetes", **iterations(2)},
        inputs={
            2: Inputs(primary=Ready.STUCK),
            3: Inputs(primary=Ready.READY),
            4: Inputs(revision="2"),
        },
        first=1,
        is_idle=True,
        own="Ig 0 ×2 → In 0 → Pg 0 → it1 → it2 → it3 → Pm it3 → Fn 0 → Su",
        quirks=("Q12",),
    ),
)

GATES = (
    Scenario(
        "S36",
        "the start gate is closed for three ticks",
        "Wt 0 100:0 ×3 → Pg 0 → Pg 20 80:20",
        hooked(gate="confirm-rollout"),
        inputs=answers(t3={"gate": 403}, t6={"gate": 200}),
        events={
            3: ["advancement waiting for approval gate"],
            4: [],
            6: ["Confirm-rollout check gate passed", "New revision detected! Scaling up podinfo."],
        },
        alerts={3: ["Canary is waiting for approval."], 4: []},
        hooks={3: ["gate:Initialized"], 4: ["gate:Waiting"], 6: ["gate:Waiting"], 7: []},
    ),
    Scenario(
        "S36-rollback",
        "somebody asks for a rollback while the start gate is closed",
        "Wt 0 100:0 ×3 → Pg 0 → Pg 20 80:20",
        hooked(gate="confirm-rollout", back="rollback"),
        inputs=answers(t3={"gate": 403, "back": 200}, t6={"gate": 200, "back": 403}),
        own="Wt 0 100:0 → Fa 0 ×4",
        quirks=("Q11",),
    ),
    Scenario(
        "S39",
        "the promotion gate of blue/green is closed for four ticks",
        "Pg 0 100:0 → it1 → it2 → it3 → WP it2 → WP it3 → WP it2 → WP it3 → WP it4 0:100 → Pm it4 → Fn 0 100:0 → Su",
        {"analysis": {**iterations(3)["analysis"], **hooked(gate="confirm-promotion")["analysis"]}},
        inputs=answers(t7={"gate": 403}, t11={"gate": 200}),
        alerts={7: ["Canary promotion is waiting for approval."], 9: []},
        hooks={6: [], 7: ["gate:Progressing"], 8: [], 9: ["gate:Progressing"], 11: ["gate:Progressing"]},
    ),
    Scenario(
        "S40",
        "the promotion gate of A/B testing is closed for four ticks",
        "Pg 0 100:0 → it1 0:100 → it2 → WP it1 → WP it2 → WP it1 → WP it2 → Pm it2 → Fn 0 100:0 → Su",
        {"analysis": {**iterations(2, match=MATCH)["analysis"], **hooked(gate="confirm-promotion")["analysis"]}},
        inputs=answers(t6={"gate": 403}, t10={"gate": 200}),
    ),
    Scenario(
        "S41",
        "a single check, and a promotion gate that is closed for four ticks",
        "Pg 0 100:0 → it1 → WP it0 → WP it1 → WP it0 → WP it1 → WP it2 0:100 → Pm it2 → Fn 0 100:0 → Su",
        {
            "analysis": {
                **iterations(1)["analysis"],
                **hooked(warm="pre-rollout", gate="confirm-promotion")["analysis"],
            }
        },
        inputs=answers(t5={"gate": 403}, t9={"gate": 200}),
        hooks={6: ["warm:Progressing"], 7: ["gate:Progressing"]},
        own="Pg 0 100:0 → it1 → WP it1 ×4 → WP it2 0:100 → Pm it2 → Fn 0 100:0 → Su",
        quirks=("Q10",),
    ),
    Scenario(
        "gate-weights",
        "the promotion gate of a weighted canary is closed for two ticks",
        "Pg 0 100:0 → Pg 20 80:20 → Pg 40 60:40 → Pg 60 40:60 → WP 0/0/-1 ×2 → Pm 0/0/-1 → Fn 0 100:0 → Su",
        hooked(gate="confirm-promotion"),
        inputs=answers(t7={"gate": 403}, t9={"gate": 200}),
    ),
    Scenario(
        "gate-traffic",
        "more traffic is refused for two ticks",
        "Pg 0 100:0 → Pg 20 80:20 → Pg 20 ×2 → Pg 40 60:40",
        hooked(gate="confirm-traffic-increase"),
        inputs=answers(t5={"gate": 403}, t7={"gate": 200}),
        events={5: ["waiting for traffic increase approval gate"], 6: ["waiting for traffic increase approval gate"]},
        alerts={5: ["Canary traffic increase is waiting for approval."], 6: ["Canary traffic increase is waiting"]},
    ),
    Scenario(
        "S43",
        "a pre-rollout hook fails twice",
        "Pg 0 100:0 → Pg 0/1 → Pg 0/2 → Fa 0",
        hooked(warm="pre-rollout"),
        inputs=answers(t4={"warm": 403}),
        events={4: ["Starting canary analysis", "advancement pre-rollout check warm failed"]},
    ),
    Scenario(
        "S43-once",
        "a pre-rollout hook fails once",
        "Pg 0 100:0 → Pg 0/1 → Pg 20/1 80:20 → Pg 40/1 60:40",
        hooked(warm="pre-rollout"),
        inputs=answers(t4={"warm": 403}, t5={"warm": 200}),
    ),
    Scenario(
        "S44",
        "a rollout hook fails",
        "Pg 0 100:0 → Pg 20 80:20 → Pg 20/1 → Pg 20/2 → Fa 0 100:0",
        hooked(load="rollout", bye="post-rollout"),
        inputs=answers(t5={"load": 403}),
        events={5: ["advancement external check load failed"]},
        hooks={4: [], 5: ["load:Progressing"], 7: ["bye:Failed"]},
    ),
    Scenario(
        "S44-status",
        "which HTTP statuses of a hook are a success: 200, 201, 202; not 204, 302, 404, 500, 501",
        "Pg 0 100:0 → Pg 5 95:5 → Pg 10 90:10 → Pg 15 85:15 → Pg 20 80:20 → Pg 20/1 → Pg 20/2 → Pg 20/3 → Pg 20/4 "
        "→ Pg 20/5",
        {"analysis": {"stepWeight": 5, "threshold": 9, **hooked(load="rollout")["analysis"]}},
        inputs={
            tick: Inputs(hooks={"load": status})
            for tick, status in enumerate((200, 201, 202, 204, 302, 404, 500, 501), start=5)
        },
        own="Pg 0 100:0 → Pg 5 95:5 → Pg 10 90:10 → Pg 15 85:15 → Pg 20 80:20 → Pg 25 75:25 → Pg 25/1 → Pg 25/2 "
        "→ Pg 25/3 → Pg 25/4",
        quirks=("Q15",),
    ),
    Scenario(
        "S45",
        "somebody asks for a rollback",
        "Pg 0 100:0 → Pg 20 80:20 → Fa 0 100:0",
        hooked(back="rollback", bye="post-rollout"),
        inputs=answers(t1={"back": 403}, t5={"back": 200}),
        events={
            4: ["Rollback hook back not signaling a rollback", "Starting canary analysis", "canary weight 20"],
            5: [
                "Rollback check back passed",
                "manual webhook invoked",
                "Canary failed! Scaling down podinfo.",
                "Post-rollout check bye passed",
            ],
        },
        alerts={5: ["Rolling back manual webhook invoked"]},
        hooks={5: ["back:Progressing", "bye:Failed"]},
    ),
    Scenario(
        "hook-order",
        "all kinds of hooks within one tick",
        HAPPY,
        every_hook(),
        inputs=answers(t1={"back": 403}),
        hooks={
            3: ["start:Initialized"],
            4: ["back:Progressing", "warm:Progressing", "more:Progressing"],
            5: ["back:Progressing", "load:Progressing", "more:Progressing"],
            7: ["back:Progressing", "load:Progressing", "more:Progressing", "promote:Progressing"],
            8: [],
            9: ["bye:Succeeded"],
        },
    ),
    Scenario(
        "event-hook",
        "a Canary's own hook hears of the events in place of the engine's",
        "Pg 0 100:0 → Pg 20 80:20 → Pg 40 60:40",
        hooked(tell="event"),
    ),
)

SKIPPED = (
    Scenario(
        "S46",
        "no analysis: of all hooks only those at both ends are called",
        "Pg 0 100:0 → Su 0",
        {"skipAnalysis": True, **every_hook()},
        events={
            4: [
                "template spec to podinfo-primary.",
                "Post-rollout check bye passed",
                "Promotion completed! Canary analysis was skipped for podinfo.",
            ]
        },
        alerts={4: ["Canary analysis was skipped, promotion finished."]},
        hooks={3: ["start:Initialized"], 4: ["bye:Succeeded"]},
    ),
    Scenario(
        "S46-midway",
        "no further analysis",
        "Pg 0 100:0 → Pg 20 80:20 → Su 0 100:0",
        inputs={5: Inputs(spec={"skipAnalysis": True})},
    ),
    Scenario(
        "S46-primary",
        "without analysis a stuck primary does not matter",
        "Pg 0 100:0 → Su 0",
        {"skipAnalysis": True},
        inputs={3: Inputs(revision="2", primary=Ready.STUCK)},
    ),
    Scenario(
        "S46-canary",
        "without analysis the canary has to be ready all the same",
        "Pg 0 100:0 → Pg 0 ×2 → Su 0",
        {"skipAnalysis": True},
        inputs={4: Inputs(canary=Ready.UNREADY), 6: Inputs(canary=Ready.READY)},
        events={4: [NOT_READY]},
    ),
    Scenario(
        "S48",
        "without analysis the first tick initialises",
        "In 0 100:0 ×2",
        {"skipAnalysis": True},
        first=1,
        is_idle=True,
    ),
    Scenario(
        "suspend",
        "a suspended Canary keeps its routes",
        "Pg 0 100:0 → Pg 20 80:20 → Pg 20 ×2 → Pg 40 60:40",
        inputs={5: Inputs(spec={"suspend": True}), 7: Inputs(spec={"suspend": None})},
        events={5: ["skipping canary run as object is suspended"], 6: ["skipping canary run"]},
    ),
)

METRICS = (
    Scenario(
        "S52",
        "a duration is cut to whole milliseconds, and so is its limit",
        "Pg 0 100:0 → Pg 20 80:20 → Pg 40 60:40 → Pg 40/1",
        analysis(metrics=[{"name": "request-duration", "interval": "1m", "thresholdRange": {"max": 0.5}}]),
        inputs={5: Inputs(metric=0.9), 6: Inputs(metric=1.0)},
        events={6: ["request duration 1ms > 0s"]},
    ),
    Scenario(
        "S52-limit",
        "a limit of 500.9 ms is one of 500",
        "Pg 0 100:0 → Pg 20 80:20 → Pg 40 60:40 → Pg 40/1",
        analysis(metrics=[{"name": "request-duration", "interval": "1m", "thresholdRange": {"max": 500.9}}]),
        inputs={5: Inputs(metric=500.95), 6: Inputs(metric=501.0)},
        events={6: ["request duration 501ms > 500ms"]},
    ),
    Scenario(
        "S53",
        "the old threshold is a minimum for rates and a maximum for the rest",
        "Pg 0 100:0 → Pg 20 80:20 → Pg 20/1 → Pg 20/2 → Fa 0 100:0",
        analysis(
            metrics=[
                {"name": "request-success-rate", "interval": "1m", "threshold": 99},
                {"name": "request-duration", "interval": "1m", "threshold": 50},
                {"name": "errors", "interval": "1m", "threshold": 60, "query": "errors{ns='{{ namespace }}'}"},
            ]
        ),
        inputs={5: Inputs(metric=99.0)},
        events={5: ["request duration 99ms > 50ms"]},
    ),
    Scenario(
        "S53-query",
        "a query's own threshold is a maximum",
        "Pg 0 100:0 → Pg 20 80:20 → Pg 40 60:40 → Pg 40/1",
        analysis(
            metrics=[{"name": "errors", "interval": "1m", "threshold": 60, "query": "errors{ns='{{ namespace }}'}"}]
        ),
        inputs={5: Inputs(metric=60.0), 6: Inputs(metric=99.0)},
        events={6: ["errors 99.00 > 60"]},
    ),
    Scenario(
        "S54",
        "a template without interval, whose query has two series",
        "Pg 0 100:0 → Pg 20 80:20 → Pg 20/1 → Pg 20/2 → Fa 0 100:0",
        analysis(metrics=[{"name": "own", "templateRef": {"name": "own"}}]),
        inputs={5: Inputs(metric=(3.0, 7.0))},
        events={5: ["own 7.00 > 0"]},
        quirks=("Q13",),
        objects=(METRIC_TEMPLATE,),
    ),
)

DAEMON_SET = {"targetRef": {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "podinfo"}}
SERVICE = {"targetRef": {"apiVersion": "v1", "kind": "Service", "name": "podinfo"}}

OBJECTS = (
    Scenario(
        "S51",
        "session affinity, promoted",
        HAPPY,
        analysis(sessionAffinity=AFFINITY),
    ),
    Scenario(
        "S51-failed",
        "session affinity, rolled back",
        "Pg 0 100:0 → Pg 20 80:20 → Pg 20/1 → Pg 20/2 → Fa 0 100:0",
        analysis(sessionAffinity=AFFINITY),
        inputs=bad(5, until=7),
    ),
    Scenario(
        "S56",
        "Git scales the target while nothing is going on",
        "In 0 100:0 r3 ×2 → Pg 0 r3 → Pg 20 80:20 r3",
        inputs={3: Inputs(replicas=3), 5: Inputs(revision="2")},
        is_idle=True,
    ),
    Scenario(
        "S57",
        "the target is a Service that leads to a name",
        HAPPY,
        SERVICE,
        quirks=("Q17",),
    ),
    Scenario(
        "S57-cluster-ip",
        "the target is a Service with an address of the cluster, which no API server lets Flagger copy",
        "Ig 0 100:0 ×9",
        SERVICE,
        first=1,
        own=f"In 0 100:0 ×2 → {HAPPY}",
        quirks=("clusterIPs",),
        has_cluster_ip=True,
    ),
    Scenario(
        "daemonset",
        "the target is a DaemonSet",
        HAPPY,
        DAEMON_SET,
    ),
    Scenario(
        "daemonset-unready",
        "the target is a DaemonSet whose Pods are not ready for two ticks",
        "Pg 0 100:0 → Pg 0 ×2 → Pg 20 80:20 → Pg 20 → Pg 40 60:40",
        # Its deadline runs from the last write of the status: a slow machine must not reach it.
        {**DAEMON_SET, "progressDeadlineSeconds": 600},
        inputs={
            4: Inputs(canary=Ready.UNREADY),
            6: Inputs(canary=Ready.READY),
            7: Inputs(primary=Ready.UNREADY),
            8: Inputs(primary=Ready.READY),
        },
    ),
    Scenario("hpa", "the target has a scaler", HAPPY, {"autoscalerRef": HPA_REFERENCE}, objects=(HPA,)),
)

# What section 10 has no scenario for.
FIXED = (
    Scenario(
        "Q4",
        "the canary breaks while the primary takes over",
        "Pg 0 100:0 → Pg 20 80:20 → Pg 40 60:40 → Pg 60 40:60 → Pm 60 → Fa 0 100:0 ×2",
        inputs={8: Inputs(canary=Ready.STUCK)},
        own=HAPPY,
        quirks=("Q4",),
    ),
    Scenario(
        "Q5-waiting",
        "back to the promoted image while the start gate is closed",
        "Wt 0 100:0 ×3 → Pg 0 → Pg 20 80:20",
        hooked(gate="confirm-rollout"),
        inputs={
            3: Inputs(revision="2", hooks={"gate": 403}),
            5: Inputs(revision="1"),
            6: Inputs(hooks={"gate": 200}),
        },
        own="Wt 0 100:0 ×2 → In 0 ×3",
        quirks=("Q5",),
    ),
    Scenario(
        "Q5-failed",
        "back to an image that failed before, while the start gate is closed: that one is not promoted",
        "Pg 0 100:0 → Pg 20 80:20 → Pg 20/1 → Pg 20/2 → Fa 0 100:0 → Wt 0 ×2 → Pg 0 → Pg 20 80:20",
        hooked(gate="confirm-rollout"),
        inputs={
            5: Inputs(metric=90.0),
            7: Inputs(metric=100.0),
            8: Inputs(revision="3", hooks={"gate": 403}),
            9: Inputs(revision="2"),
            10: Inputs(hooks={"gate": 200}),
        },
        quirks=("Q1",),
    ),
    Scenario(
        "Q8-unknown",
        "a weight that is not in the list",
        "Pg 0 100:0 → Pg 10 90:10 → Pg 100 0:100 → Pm 100 → Fn 0 100:0",
        weights(10, 20, 50),
        inputs={5: Inputs(routes=(85, 15))},
        own="Pg 0 100:0 → Pg 10 90:10 → Pg 20 80:20 → Pg 50 50:50 → Pm 50",
        quirks=("Q8",),
    ),
    Scenario(
        "Q9-ab",
        "fewer iterations than were counted, A/B testing",
        "Pg 0 100:0 → it1 0:100 → it2 → it3 → it3 ×3",
        iterations(5, match=MATCH),
        inputs={7: Inputs(spec=analysis(iterations=2))},
        own="Pg 0 100:0 → it1 0:100 → it2 → it3 → Pm it3 → Fn 0 100:0 → Su",
        quirks=("Q9",),
    ),
    Scenario(
        "Q9-bg",
        "fewer iterations than were counted, blue/green",
        "Pg 0 100:0 → it1 → it2 → it3 → Pm it3 → Fn 0 → Su",
        iterations(5),
        inputs={7: Inputs(spec=analysis(iterations=2))},
        own="Pg 0 100:0 → it1 → it2 → it3 → it4 0:100 → Pm it4 → Fn 0 100:0",
        quirks=("Q9",),
    ),
    Scenario(
        "Q14",
        "an alert without severity",
        HAPPY,
        analysis(alerts=[{"name": "chat", "severity": "", "providerRef": {"name": "chat"}}]),
        alerts={3: [], 9: []},
        quirks=("Q14",),
        objects=(ALERT_PROVIDER,),
    ),
    Scenario(
        "weights-survive",
        "somebody puts a label on the routing object",
        "Pg 0 100:0 → Pg 20 80:20 → Pg 40 60:40 → Pg 20 80:20 → Pg 40 60:40",
        inputs={6: Inputs(label="foreign")},
        events={6: ["Starting canary analysis", "canary weight 20"]},
        own="Pg 0 100:0 → Pg 20 80:20 → Pg 40 60:40 → Pg 60 40:60 → Pm 60",
        quirks=("2.13",),
        is_pure=False,
    ),
)

SCENARIOS = (*WEIGHTED, *COUNTED, *READINESS, *GATES, *SKIPPED, *METRICS, *OBJECTS, *FIXED)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
assert len(BY_NAME) == len(SCENARIOS), "two scenarios have one name"
