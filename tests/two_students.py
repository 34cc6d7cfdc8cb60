"""Anna, Ben and a teacher at their browsers, for tests of what each may do."""

import hashlib

from pages_drawn import draw

import people

ANNA, BEN, TEACHER = "a" * 32, "b" * 32, "c" * 32  # the tokens of their browsers' cookies
PASSWORD = "chalk and cheese"


def code(token):
    """Give the owner code of a browser's token, worked out by hand."""
    return hashlib.sha256(token.encode()).hexdigest()[:16]


class Classroom:
    """Whose browser draws a page; a teacher is signed in at the teacher's, where a password is set."""

    def __init__(self, monkeypatch, password=PASSWORD):
        self._patch = monkeypatch
        monkeypatch.setattr(people, "desk", people.Desk())
        monkeypatch.setattr(people, "_password", lambda: password)
        if password:
            people.desk.sign_in(people.Seat(code(TEACHER)), password, password)

    def sits(self, token):
        """Let the next draws be for the browser with this token; None for one that keeps no cookie."""
        self._patch.setattr(people, "cookie", lambda: token)

    def draw(self, token, name="train", **query):
        self.sits(token)
        return draw(name, **query)


def buttons(page):
    """List the keys of all buttons of a page."""
    return {button.key for button in page.button}
