"""Adds what the image holds beside Python packages to the SBOM that uv has written, as the Dockerfile names it.

python scripts/sbom.py build/sbom.json
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

DOCKERFILE = Path(__file__).parents[1] / "Dockerfile"
BUILT = re.compile(r"\bgo install .*?(\S+)@(v[0-9.]+)$", re.MULTILINE)
FROM_DEBIAN = re.compile(r"\bapt-get install ([^\\\n]+)")
DISTRO = re.compile(r"^ARG PYTHON=\S+-(\w+)$", re.MULTILINE)


def programs(dockerfile: str) -> list[dict[str, str]]:
    """A component a program; Debian's have no version, for the image takes the one of the day."""
    distro = DISTRO.search(dockerfile)
    assert distro is not None, "the Dockerfile's PYTHON names no release of Debian"
    built = [
        {
            "name": module.rpartition("/v")[0].rpartition("/")[2],
            "version": version,
            "purl": f"pkg:golang/{module}@{version}",
        }
        for module, version in BUILT.findall(dockerfile)
    ]
    names = [name for words in FROM_DEBIAN.findall(dockerfile) for name in words.split() if not name.startswith("-")]
    packaged = [{"name": name, "purl": f"pkg:deb/debian/{name}?distro={distro[1]}"} for name in names]
    return [{"type": "application", "bom-ref": each["purl"], **each} for each in built + packaged]


def main(path: Path) -> None:
    content = json.loads(path.read_text())
    content["components"] += programs(DOCKERFILE.read_text())
    path.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
