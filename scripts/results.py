"""Brings pages of results/ up to date: runs the commands that a page shows and puts in what they print.

    python scripts/results.py scenes pattern2017 --out DIR
    python scripts/results.py all --out DIR --weights WEIGHTS --data-root DATA

A page is Markdown written by hand, but for what stands between `<!-- output -->` and `<!-- end of output -->` behind a
block of commands. The commands are run as they stand, those of each page in a folder of its own below DIR, where the
rows are kept: what was stopped goes on, and the second time nothing is computed. With `--held` nothing is computed at
all, and rows that another machine wrote are shown. Tables go into the page, pictures and their points into the folder
`figures` beside it. A page stays as it was where a command fails, or needs a folder
($WEIGHTS, $RAPBENCH_DATA) that was not given.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

from rapbench.core.writing import write_whole
from rapbench.report.formats import markdown_safe
from rapbench.results.store import Store

PAGES = Path(__file__).resolve().parents[1] / "results"
WIDTH = 1400
"""Pixels that a picture of a page has at most from left to right."""
OUTPUT = re.compile(
    r"(?P<head>```bash\n(?P<commands>(?:(?!```).)*)```\n\n<!-- output -->\n).*?(?P<tail><!-- end of output -->)",
    re.DOTALL,
)
VARIABLE = re.compile(r"\$\{?([A-Z_]+)")
SHELL = f'rapbench() {{ "{sys.executable}" -m rapbench "$@"; }}\n'

app = typer.Typer(add_completion=False)


class NotGiven(Exception):
    """A folder that a page needs was not given."""


@app.command()
def main(
    pages: Annotated[list[str], typer.Argument(help="Names of pages, page files, or all.")],
    out: Annotated[Path, typer.Option(help="Folder of the rows.")] = PAGES / "runs" / "pages",
    weights: Annotated[Path | None, typer.Option(help="Folder of weight files: $WEIGHTS.")] = None,
    data_root: Annotated[Path | None, typer.Option(envvar="RAPBENCH_DATA", help="Folder of the data sets.")] = None,
    held: Annotated[
        bool, typer.Option("--held", help="Leave out `rapbench run`: show the rows that are there.")
    ] = False,
) -> None:
    """Bring pages of results up to date; exit with 1 if a command failed."""
    given = {"WEIGHTS": weights, "RAPBENCH_DATA": data_root}
    folders = {name: str(folder.resolve()) for name, folder in given.items() if folder}
    failed = False
    for page in chosen(pages):
        try:
            changed = renewed(page, out.resolve() / page.stem, folders, held=held)
            typer.echo(f"{page.stem}: {'changed; read what it says of its numbers' if changed else 'as it was'}")
        except NotGiven as reason:
            typer.echo(f"{page.stem}: left out, {reason}")
        except subprocess.CalledProcessError as error:
            failed = True
            typer.echo(f"{page.stem}: left as it was, since this failed: {error.cmd}\n  {error.stderr}")
    raise typer.Exit(int(failed))


def chosen(names: Sequence[str]) -> list[Path]:
    """The pages of these names; 'all' are those that show output of commands."""
    if list(names) == ["all"]:
        return [page for page in sorted(PAGES.glob("*.md")) if OUTPUT.search(page.read_text())]
    return [Path(name) if name.endswith(".md") else PAGES / f"{name}.md" for name in names]


def renewed(page: Path, folder: Path, folders: dict[str, str], *, held: bool = False) -> bool:
    """Runs a page's commands and puts in what they print; whether that changed it.

    Raises:
        NotGiven: a command needs a folder that was not given.
        CalledProcessError: a command failed; its `stderr` is the last line that it wrote.
    """
    before = page.read_text()
    for name in sorted(set(VARIABLE.findall("".join(block["commands"] for block in OUTPUT.finditer(before))))):
        if name not in folders:
            raise NotGiven(f"it needs {name}")
    folder.mkdir(parents=True, exist_ok=True)
    after = OUTPUT.sub(partial(filled, page=page, folder=folder, folders=folders, held=held), before)
    if after != before:
        write_whole(page, after.encode())
    return after != before


def filled(block: re.Match[str], *, page: Path, folder: Path, folders: dict[str, str], held: bool) -> str:
    """A block of commands with what they print now; folders that were given are called by their variables."""
    environment = {**os.environ, **folders}
    typed = re.sub(r"\\\n\s*", "", block["commands"]).splitlines()
    commands = [command for command in typed if not (held and command.startswith("rapbench run"))]
    parts = [shown_of(command, printed(command, folder, environment), page, folder) for command in commands]
    text = f"{block['head']}\n" + "".join(f"{part}\n\n" for part in (*parts, origin(folder)) if part) + block["tail"]
    for name, path in folders.items():
        for written in (path, markdown_safe(path)):
            text = text.replace(f"{written}/", f"{markdown_safe(name)}/")
    return text


def printed(command: str, folder: Path, environment: dict[str, str]) -> str:
    """What a command prints on stdout; its progress goes to the file `log` in its folder.

    Raises:
        CalledProcessError: it failed.
    """
    with (folder / "log").open("w+") as log:
        done = subprocess.run(
            ["/bin/bash", "-euo", "pipefail", "-c", SHELL + command],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            check=False,
        )
        log.seek(0)
        if done.returncode:
            last = (log.read().strip().splitlines() or ["no message"])[-1]
            raise subprocess.CalledProcessError(done.returncode, command, stderr=last)
    return done.stdout.strip()


def shown_of(command: str, text: str, page: Path, folder: Path) -> str:
    """What of a command's output a page shows: tables, ranks and pictures; a run's own tables are those of `table`."""
    if command.startswith(("rapbench table", "rapbench ranks")):
        return re.sub("^#", "##", text)  # its title is below the page's
    if not command.startswith(("rapbench figure", "rapbench show")):
        return ""
    files = [folder / line for line in text.splitlines()]
    return "\n\n".join(filter(None, (shown(file, page.parent / "figures") for file in files)))


def shown(file: Path, figures: Path) -> str:
    """A picture, or a link to its points, with the file put into the folder of figures; empty for other files."""
    if file.suffix == ".png":
        write_whole(figures / file.name, smaller(file))
        return f"![{file.stem}](figures/{file.name})"
    if file.suffix == ".csv":
        write_whole(figures / file.name, file.read_bytes())
        return f"[Points](figures/{file.name})"
    return ""


def smaller(file: Path) -> bytes:
    """A picture at the width of a page."""
    content = io.BytesIO()
    with Image.open(file) as opened:
        image = opened.convert("RGB")
    image.thumbnail((WIDTH, WIDTH))
    image.save(content, "PNG", optimize=True)
    return content.getvalue()


def origin(folder: Path) -> str:
    """A line on when the rows in a folder were computed, by what and on what; empty where there are none."""
    found, arithmetics, latest = set(), set(), 0.0
    for store in map(Store, {spec.parents[1] for spec in folder.rglob("spec.json")}):
        for held in store.held():
            own = held.cell.identity
            arithmetics.add(own.arithmetic)
            for file in store.files(held.cell).values():
                versions = ", ".join(f"{name} {value}" for name, value in file.origin.items() if name != "device")
                found.add(f"{versions}, on {file.origin['device']} ({own.device}), seed {own.seed}")
                latest = max(latest, file.path.stat().st_mtime)
    day = datetime.fromtimestamp(latest, UTC).date()
    computed = f"computed by {'; and by '.join(sorted(found))}; maps in {' and '.join(sorted(arithmetics))}"
    return f"Rows of {day}, {computed}." if found else ""


if __name__ == "__main__":
    app()
