"""Ship finished runs with the project: copy what makes their figures into runs/, marked as reference runs.

    python -m tools.record_runs FOLDER...          # run directories, of any runs folder

Copied are run.json, history.csv, metrics.json, predictions.csv, code.py and log.txt: no model, no state, no logs of
callbacks, no pictures. Refused are runs that are not done, are imported, name a path of this computer, or are in
runs/ already (copy their folder elsewhere first); then nothing is copied. A run that was shipped before is replaced by
one of its name from elsewhere. runs/ is not in git by itself: `git add -f` each.
"""

import argparse
import json
import re
import shutil
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from cvcore.errors import CvcoreError
from cvcore.files import replace_json
from cvcore.run_directory import Run, load_run
from cvcore.settings import PROJECT

SHIPPED = ("run.json", "history.csv", "metrics.json", "predictions.csv", "code.py", "log.txt")
NEEDED = ("run.json", "history.csv", "metrics.json", "predictions.csv")
LIMIT = 5_000_000  # bytes of all shipped runs together
ABSOLUTE = re.compile(r"(?<![\w.:/])/([\w.-]+)/[\w./-]*|\b[A-Za-z]:\\[\w.\\ -]+")


def main() -> int:
    """Check all, then copy all; exit 1 with a sentence when one is refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="a run directory")
    parser.add_argument("--into", type=Path, default=PROJECT / "runs", help="default: runs/ of this project")
    options = parser.parse_args()
    try:
        recorded = record(options.folders, options.into)
    except CvcoreError as error:
        print(error, file=sys.stderr)
        return 1
    for run, size in recorded:
        print(f"{run.id}: {size / 1000:,.0f} kB")
    print(f"All reference runs there: {shipped_bytes(options.into) / 1e6:.2f} MB of {LIMIT / 1e6:g} MB.")
    return 0


def record(folders: Sequence[Path], into: Path) -> list[tuple[Run, int]]:
    """Copy runs into a runs folder as reference runs.

    Returns:
        (run, bytes copied) of each.

    Raises:
        CvcoreError: a run is refused, or all together pass LIMIT; nothing is copied then.
    """
    found = [load_run(folder.name, folder.parent) for folder in map(Path.resolve, folders)]
    for run in found:
        check(run)
        if run.path == into.resolve() / run.id:
            raise CvcoreError(f"a run is recorded from another folder: {run.id} is in this one already, where its "
                              "model and state would be lost; record a copy of its folder")  # fmt: skip
    sizes = {run.id: sum(path.stat().st_size for path in shipped_files(run.path)) for run in found}
    total = shipped_bytes(into, without=set(sizes)) + sum(sizes.values())
    if total > LIMIT:
        raise CvcoreError(f"reference runs may take {LIMIT / 1e6:g} MB together; with these they would take "
                          f"{total / 1e6:.2f} MB")  # fmt: skip
    into.mkdir(parents=True, exist_ok=True)
    for run in found:
        target, being_made = into / run.id, into / f".{run.id}.recording"
        shutil.rmtree(being_made, ignore_errors=True)
        being_made.mkdir()
        for path in shipped_files(run.path):
            shutil.copyfile(path, being_made / path.name)
        replace_json(being_made / "run.json", {**run.info, "reference": True})
        shutil.rmtree(target, ignore_errors=True)
        being_made.rename(target)
    return [(run, sizes[run.id]) for run in found]


def check(run: Run) -> None:
    """Refuse a run that is not done, is imported, lacks a file or names a path of this computer.

    Raises:
        CvcoreError: one of these, as a sentence.
    """
    if run.status != "done" or run.imported:
        what = "imported" if run.imported else run.status
        raise CvcoreError(f"only runs that were trained here and are done are shipped; {run.id} is {what}")
    missing = [name for name in NEEDED if not (run.path / name).is_file()]
    if missing:
        raise CvcoreError(f"a shipped run has {', '.join(NEEDED)}; {run.id} lacks {', '.join(missing)}")
    for path in shipped_files(run.path):
        if told := paths_of_this_computer(path.read_text()):
            raise CvcoreError(f"shipped files name no path of this computer; {run.id}/{path.name} has {told[0]}")


def paths_of_this_computer(text: str) -> list[str]:
    """Find absolute paths that begin at a folder which is here, and paths of Windows' drives."""
    matches = ABSOLUTE.finditer(text)
    return [match.group() for match in matches if match.group(1) is None or Path("/", match.group(1)).exists()]


def shipped_files(folder: Path) -> list[Path]:
    """The files of a run directory that are shipped, as far as they are there."""
    return [folder / name for name in SHIPPED if (folder / name).is_file()]


def shipped_bytes(folder: Path, without: Collection[str] = ()) -> int:
    """Bytes of the reference runs of a folder."""
    size = 0
    for path in sorted(folder.glob("*/run.json")):
        if path.parent.name not in without and json.loads(path.read_text()).get("reference"):
            size += sum(file.stat().st_size for file in path.parent.rglob("*") if file.is_file())
    return size


if __name__ == "__main__":
    sys.exit(main())
