"""Who may do what with whose run."""

from pathlib import Path

import pytest

from cvcore.errors import NotAllowed
from cvcore.permissions import TERMINAL, Person, may_manage, require
from cvcore.run_directory import Run

ANNA, BEN = Person(owner="a" * 16), Person(owner="b" * 16)
TEACHER = Person(owner="c" * 16, teacher=True)
AT_HOME = Person(owner="d" * 16, personal=True)
NOBODY = Person()


def run(owner=None, **info):
    return Run("r1", Path("nowhere"), {"owner": owner, **info}, "done")


@pytest.mark.parametrize(
    ("whose", "may"),
    [
        (run("a" * 16), {"anna", "teacher", "terminal"}),
        (run(None), {"teacher", "at home", "terminal"}),
        (run({"pid": 1, "started": 1.0, "host": "x"}), {"teacher", "at home", "terminal"}),  # of an older version
        (run("a" * 16, reference=True), set()),
        (run(None, reference=True), set()),
        (run("a" * 16, imported=True), {"anna", "teacher", "terminal"}),
        (Run("r1", Path("nowhere"), {}, "damaged"), {"teacher", "at home", "terminal"}),
    ],
)
def test_the_owner_and_the_teacher_may_and_nobody_else(whose, may):
    people = {"anna": ANNA, "ben": BEN, "teacher": TEACHER, "at home": AT_HOME, "nobody": NOBODY, "terminal": TERMINAL}
    assert {name for name, person in people.items() if may_manage(whose, person)} == may
    for name, person in people.items():
        if name in may:
            require(whose, person, "stop")
        else:
            with pytest.raises(NotAllowed):
                require(whose, person, "stop")


@pytest.mark.parametrize("what", ["stop", "resume", "rename", "delete", "restore"])
def test_what_is_not_allowed_is_said_in_one_sentence(what):
    with pytest.raises(NotAllowed, match=f"^only its owner or a teacher may {what} a run; r1 belongs to somebody"):
        require(run("a" * 16), BEN, what)
    with pytest.raises(NotAllowed, match=f"^only the teacher may {what} a run that has no owner; r1 has none$"):
        require(run(), BEN, what)
    with pytest.raises(NotAllowed, match=f"^nobody may {what} a reference run, which ships with the project; r1 is"):
        require(run(reference=True), TEACHER, what)


def test_somebody_who_is_not_known_owns_no_run():
    """None is no name: the runs without an owner are not everybody's whose owner is not known."""
    assert not may_manage(run(None), NOBODY) and not may_manage(run(""), NOBODY)
    assert not may_manage(run(""), Person(owner=""))
