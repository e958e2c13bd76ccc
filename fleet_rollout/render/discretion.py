"""What may be told of kustomize's complaint where a build holds Secrets: it quotes whole patches and literals.

Quotation marks cannot be trusted (`invalid literal source hunter2, expected key=value`), so that only what is known
to be no content is let through: kustomize's own words, names of the build's files, identities of objects, fields.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection

HIDDEN = "…"
NOTE = f" ({HIDDEN} may be of a Secret and is not shown: `kustomize build` on your own machine shows it)"

# Of its errors, as far as they were met; of YAML, JSON and Go in them.
WORDS = frozenset(
    re.findall(
        r"\S+",
        """accumulating accumulation resources resource from err error errors in the file files of is not directory
        must build merging may add an a already registered id missing object map invalid literal source sources
        expected key value keys values loading kv pairs pair illegally repeats json yaml cannot could did unmarshal
        into go struct field fields type string number bool array list mapping interface trouble configuring builtin
        with config configuration unable failed to parse sm or patch patches path paths replace remove operation does
        apply doc testing test unexpected kind no such matches match for strategic merge find found unique target
        targets multiple at line column malformed unknown anchor referenced looking up replacement replacements wrong
        node but got contents transformer generator generators literals envs env name names namespace defined load
        read reading reached end stream while scanning parsing block flow sequence document start character that any
        token expects decoding decode conflict conflicts conflicting behavior create exist exists exceeds same content
        between and select option options configmap secret secrets kustomization nil been on be malformedyamlerror
        map[string]interface mappingnode scalarnode sequencenode patchtransformer patchjson6902transformer
        patchstrategicmergetransformer secretgenerator configmapgenerator replacementtransformer""",
    )
)
IDENTITY = re.compile(r"[A-Z]\w+\.(?:v\d\w*|\[noVer\])\.(?:\[noGrp\]|[a-z0-9.-]+)/[a-z0-9.-]+\.(?:\[noNs\]|[a-z0-9-]+)")
FIELD = re.compile(
    r"/?(?:metadata|data|stringData|spec|(?:Secret|ConfigMap|Generator)Args|Kustomization)(?:[/.][\w-]+)*"
)
QUOTED = re.compile(r"`[^`]*`|\[(?!(?:no(?:Ns|Grp|Ver)|string)?\])[^\]]*\]")
WORD = re.compile(r"[^\s'\"`,;(){}=]+")
GAP = re.compile(rf"{HIDDEN}(?:[\s'\"`,;(){{}}=\[\]]*{HIDDEN})+")


def reduced(complaint: str, names: Collection[str]) -> str:
    """`complaint` without what may be content; `names` are those of the files that the build has."""
    known = {part for name in names for part in (name, posixpath.basename(name), posixpath.dirname(name)) if part}
    before = ""

    def told(match: re.Match[str]) -> str:
        nonlocal before
        word = match[0].rstrip(":.")
        bare = word.strip("[]:.")
        is_place = before in ("line", "column") and bare.isdecimal()
        before = bare
        is_known = not bare or bare.lower() in WORDS or posixpath.normpath(word) in known
        return match[0] if is_known or is_place or IDENTITY.fullmatch(word) or FIELD.fullmatch(bare) else HIDDEN

    text = GAP.sub(HIDDEN, WORD.sub(told, QUOTED.sub(HIDDEN, complaint)))
    return text + NOTE if HIDDEN in text else text
