"""Who sits at a browser: the owner of runs, or the teacher; what each may do is in `cvcore.permissions`."""

import hashlib
import hmac
import importlib.util
import math
import secrets
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import streamlit as st

import owner_cookie
import shell
from cvcore.errors import CvcoreError
from cvcore.permissions import Person

A_LESSON = 4 * 3600.0  # seconds for which a teacher stays signed in
A_PAUSE = 600.0  # seconds without a wrong password after which wrong ones are forgotten
SETTLED_AFTER = 120.0  # seconds after which a browser does not wait for what new ones try
MOST_BROWSERS = 10_000  # of which it is known for how long they have been here
# Wrong passwords before the next try has to wait, and the longest wait in seconds. A whole school may share an address.
OF_A_BROWSER, OF_AN_ADDRESS, OF_ALL = (3, 30.0), (10, 5.0), (30, 5.0)


def person() -> Person:
    """Say who sits at this browser: its owner code, whether it is the teacher, whether the computer is one's own."""
    at, password = seat(), _password()
    desk.seen(at.owner)
    return Person(owner=at.owner, teacher=desk.is_teacher(at, password), personal=password is None)


class Seat(NamedTuple):
    """What a sign-in is bound to, so that the cookie alone, planted or copied, makes nobody the teacher."""

    owner: str
    address: str = ""
    agent: str = ""


def seat() -> Seat:
    """Say where this browser sits: its owner code, its address ("" on this computer), what program it says it is."""
    return Seat(owner(), *_connection())


def owner() -> str:
    """Give this browser's owner code, 16 hexadecimal digits: of who signed in, else of its cookie, else of this visit.

    What identifies the browser is kept by it and by the server's memory; a run has the hash only.
    """
    identity = _identity() or st.session_state.setdefault("owner_of_this_visit", secrets.token_hex(16))
    return code_of(identity)


def code_of(identity: str) -> str:
    """Hash what identifies a browser or a user to an owner code, 16 hexadecimal digits."""
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def no_cookie_caption() -> None:
    """Say where runs are launched that this browser forgets whose they are, if it does."""
    if _identity() is None:
        st.caption(
            ":material/cookie_off: This browser keeps no cookie of this site: what you launch is yours only until you "
            "reload or close this page."
        )


def sign_in() -> None:
    """Offer the teacher's sign-in where a password is set, and the visitors' where a login is set up."""
    with st.container(horizontal=True, horizontal_alignment="right"):
        _visitor_sign_in()
        if _password() is not None:
            teacher = person().teacher
            label = "Teacher: signed in" if teacher else "Teacher"
            with st.popover(label, icon=":material/school:", key=f"teacher_{teacher}"), shell.error_box():
                _teacher_signed_in() if teacher else _teacher_sign_in()


def _teacher_sign_in() -> None:
    with st.form("teacher_form", clear_on_submit=True, border=False):
        typed = st.text_input("Teacher's password", type="password", key="teacher_password", max_chars=200)
        if st.form_submit_button("Sign in", icon=":material/login:"):
            desk.sign_in(seat(), typed, _password() or "")
            st.rerun()
    st.caption(
        "Who signs in may stop, resume, rename, delete and restore every run but the recorded ones, clear what is "
        "stored and remove uploads."
    )


def _teacher_signed_in() -> None:
    st.caption(
        "You may stop, resume, rename, delete and restore every run but the recorded ones, clear what is stored and "
        f"remove uploads, in every tab of this browser, for {A_LESSON / 3600:g} hours. Sign out before you leave this "
        "computer to somebody else."
    )
    if st.button("Sign out", icon=":material/logout:", key="teacher_sign_out"):
        desk.sign_out(seat())
        st.rerun()


def _visitor_sign_in() -> None:
    """Offer Streamlit's login where [auth] is in the secrets and Authlib, which it needs, is installed."""
    section = _secret("auth")
    if not section or importlib.util.find_spec("authlib") is None:
        return
    if st.user.get("is_logged_in"):
        if st.button("Sign out", icon=":material/logout:", key="visitor_sign_out", help="Your runs stay yours."):
            st.logout()
        return
    providers = [name for name in section if hasattr(section[name], "keys")]
    for name in providers or [None]:
        label = f"Sign in with {name}" if name else "Sign in"
        if st.button(label, icon=":material/login:", key=f"visitor_sign_in_{name}"):
            st.login(name)


class Desk:
    """Who is signed in as the teacher in this process, and how long whose next try has to wait.

    A browser waits for its own wrong passwords, which it can forget with its cookie; so it also waits, less long, for
    those from its address and for all. New browsers, of which a program can make any number, and those that have used
    up their own tries hold up neither the others nor those that the teacher has signed in from.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wrong: dict[tuple[object, ...], tuple[int, float]] = {}  # whose -> how many, when the last one was
        self._seen: dict[str, float] = {}  # owner -> when first; who was here last comes last
        self._until: dict[Seat, tuple[float, str]] = {}
        self._known: set[Seat] = set()

    def seen(self, owner: str) -> None:
        """Note that this owner is here."""
        with self._lock:
            self._seen[owner] = self._seen.pop(owner, time.monotonic())
            if len(self._seen) > MOST_BROWSERS:
                del self._seen[next(iter(self._seen))]

    def sign_in(self, seat: Seat, typed: str, password: str) -> None:
        """Sign a browser in as the teacher's.

        Args:
            seat: where it sits.
            typed: what was typed.
            password: what is set; "" lets nobody in.

        Raises:
            CvcoreError: it is wrong, or after several wrong ones the next try has to wait, also one with the right one.
        """
        with self._lock:
            now = time.monotonic()
            self._wrong = {who: tries for who, tries in self._wrong.items() if now - tries[1] <= A_PAUSE}
            own = "browser", seat.owner, seat.address
            here_for = now - self._seen.get(seat.owner, now)
            settled = here_for >= SETTLED_AFTER and self._wrong.get(own, (0, now))[0] < OF_A_BROWSER[0]
            limits = {own: OF_A_BROWSER, ("address", seat.address, settled): OF_AN_ADDRESS, ("all", settled): OF_ALL}
            waits = [self._wait(who, *limit, now) for who, limit in limits.items()]
            wait = waits[0] if seat in self._known else max(waits)
            if wait > 0:
                raise CvcoreError(f"several wrong passwords were tried; wait {math.ceil(wait)} s and try again")
            if not password or not hmac.compare_digest(code_of(typed), code_of(password)):
                for who in limits:
                    self._wrong[who] = self._wrong.get(who, (0, now))[0] + 1, now
                raise CvcoreError("this is not the teacher's password; try again")
            self._wrong.pop(own, None)
            self._known.add(seat)
            self._until[seat] = now + A_LESSON, code_of(password)

    def sign_out(self, seat: Seat) -> None:
        """Sign a browser out, wherever it has signed in from."""
        with self._lock:
            self._until = {at: known for at, known in self._until.items() if at.owner != seat.owner}

    def is_teacher(self, seat: Seat, password: str | None) -> bool:
        """Say whether a browser has signed in, from where it is, with the password set now, within the last hours."""
        until, known = self._until.get(seat, (0.0, ""))
        return bool(password) and known == code_of(password or "") and time.monotonic() < until

    def _wait(self, who: tuple[object, ...], free: int, longest: float, now: float) -> float:
        wrong, last = self._wrong.get(who, (0, now))
        return 0.0 if wrong < free else last + min(longest, 2.0 ** min(wrong - free, 10)) - now


desk = Desk()


def _identity() -> str | None:
    """Read what identifies this browser: who signed in, or its cookie's token; None where there is neither."""
    if _secret("auth") and st.user.get("is_logged_in"):
        return f"user {st.user.get('iss')} {st.user.get('sub') or st.user.get('email')}"
    return cookie()


def cookie() -> str | None:
    """Read the token that this browser's connection came with; None where it came with none."""
    return owner_cookie.sound(st.context.cookies.get(owner_cookie.COOKIE))


def _connection() -> tuple[str, str]:
    """Read the address that this browser's connection comes from, and the program that it says it is."""
    found = st.context.ip_address, st.context.headers.get("User-Agent")
    address, agent = (word if isinstance(word, str) else "" for word in found)
    return address, agent


def _password() -> str | None:
    """Read the teacher's password: None where none is set, "" where what is set can let nobody in."""
    section = _secret("teacher")
    if section is None:
        return None
    password = section.get("password") if hasattr(section, "get") else None
    return password if isinstance(password, str) else ""


def _secret(name: str) -> Any:
    """Read a table of the secrets; None where there is none. A file that cannot be read counts as set, and empty."""
    if st.secrets.load_if_toml_exists():
        return st.secrets.get(name)
    if any(Path(path).exists() for path in st.get_option("secrets.files")):
        return {}
    return None
