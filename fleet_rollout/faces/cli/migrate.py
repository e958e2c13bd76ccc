"""`fleet-rollout migrate`: manifests of older guides, rewritten for the versions that clusters serve today."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from fleet_rollout.decide.migrate import Change, Unmigratable, changes_of, title_of
from fleet_rollout.decide.printable import printable
from fleet_rollout.faces.yaml_text import Document, UnreadableYaml, documents, edited

STANDARD_INPUT = Path("-")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True))
@click.option("-i", "--in-place", is_flag=True, help="write the file instead of printing it")
def migrate(file: Path, in_place: bool) -> None:
    """Rewrite FILE (- is standard input) and print it; other documents, comments and layout stay as they are.

    HorizontalPodAutoscalers of autoscaling/v2beta1 and v2beta2 become autoscaling/v2, which API servers still know;
    Canaries of flagger.app/v1alpha3 become v1beta1, with canaryAnalysis as analysis. What was changed is told on
    standard error; a document that cannot be rewritten is named, and nothing is written then.
    """
    if in_place and file == STANDARD_INPUT:
        raise click.UsageError("-i needs a file: standard input cannot be written")
    given = sys.stdin.buffer.read() if file == STANDARD_INPUT else file.read_bytes()
    name = "standard input" if file == STANDARD_INPUT else str(file)
    try:
        text = given.decode()
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{name}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    new = _migrated(name, text)
    if not in_place:
        click.echo(new.encode(), nl=False)
    elif new != text:
        file.write_bytes(new.encode())


def _migrated(name: str, text: str) -> str:
    changes: list[tuple[Document, Change]] = []
    faults: list[str] = []
    try:
        for document in documents(text):
            try:
                found = changes_of(document.data)
            except Unmigratable as error:
                faults.append(f"{name}: {_title(document)}: {error}")
                continue
            if found:
                click.echo(printable(f"{name}: {_title(document)}: rewritten"), err=True)
            changes += [(document, change) for change in found]
        new = edited(text, changes)
    except UnreadableYaml as error:
        raise click.ClickException(printable("\n".join([*faults, f"{name}: {error}"]))) from None
    if faults:
        raise click.ClickException(printable("\n".join(faults)))
    return new


def _title(document: Document) -> str:
    title = title_of(document.data)
    return f"document {document.number} ({title})" if title else f"document {document.number}"
