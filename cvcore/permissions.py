"""Who may stop, resume, rename, delete or restore a run: its owner and the teacher; who may clear what
is stored or remove an upload."""

from __future__ import annotations

from dataclasses import dataclass

from cvcore.errors import NotAllowed
from cvcore.run_directory import Run


@dataclass(frozen=True)
class Person:
    """Who asks.

    Attributes:
        owner: what this person's runs have as `owner`; None where nobody is known, as in a terminal.
        teacher: may manage everybody's runs.
        personal: there is no teacher here (no password is configured): whoever uses this computer manages the runs
            that have no owner.
    """

    owner: str | None = None
    teacher: bool = False
    personal: bool = False


TERMINAL = Person(teacher=True)  # whoever can type commands here can also delete the files


def may_manage(run: Run, person: Person) -> bool:
    """Say whether a person may stop, resume, rename, delete or restore a run.

    Nobody may manage a reference run, which ships with the project; the teacher manages all others, an owner their own,
    and the user of a computer without a teacher those that have no owner.
    """
    if run.reference:
        return False
    if person.teacher:
        return True
    return person.personal if not run.owner else run.owner == person.owner


def require(run: Run, person: Person, what: str) -> None:
    """Check at the moment of the act that a person may manage a run.

    Args:
        run: as its files say now.
        person: who asks.
        what: the verb: stop, resume, rename, delete, restore.

    Raises:
        NotAllowed: one sentence.
    """
    if may_manage(run, person):
        return
    if run.reference:
        raise NotAllowed(f"nobody may {what} a reference run, which ships with the project; {run.id} is one")
    if not run.owner:
        raise NotAllowed(f"only the teacher may {what} a run that has no owner; {run.id} has none")
    raise NotAllowed(f"only its owner or a teacher may {what} a run; {run.id} belongs to somebody else")


def may_clear(person: Person) -> bool:
    """Say whether a person may clear what the cache stores for everybody: the teacher may, and all where none is.

    The same of removing an upload, whoever sent it: an upload is for everybody and has no owner, and what is stored of
    its pictures goes with it.
    """
    return person.teacher or person.personal


def require_clearing(person: Person, what: str = "clear what is stored") -> None:
    """Check at the moment of the act that a person may clear what is stored.

    Args:
        person: who asks.
        what: they would do: clear what is stored, remove an upload.

    Raises:
        NotAllowed: one sentence.
    """
    if not may_clear(person):
        raise NotAllowed(f"only the teacher may {what}: runs of the whole class use it")
