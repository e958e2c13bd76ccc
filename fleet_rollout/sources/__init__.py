"""Git sources: fetched, packed into artifacts, announced by Git hosts."""

from fleet_rollout.sources.artifact import Artifact as Artifact
from fleet_rollout.sources.sources import Observation as Observation
from fleet_rollout.sources.sources import Sources as Sources
