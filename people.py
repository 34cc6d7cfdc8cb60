"""Who sits at a browser: the owner of runs, or the teacher; what each may do is in `cvcore.permissions`."""

import hashlib
import hmac
import importlib.util
import secrets
import threading
import time
from pathlib import Path
from typing import Any

import streamlit as st

import owner_cookie
import shell
from cvcore.errors import CvcoreError
from cvcore.permissions import Person

A_LESSON = 4 * 3600.0  # seconds for which a teacher stays signed in
FREE_TRIES = 3  # wrong passwords before the next try has to wait
LONGEST_WAIT = 30.0  # seconds
A_PAUSE = 600.0  # seconds without a try after which wrong ones are forgotten


def person() -> Person:
    """Say who sits at this browser: its owner code, whether it is the teacher, whether the computer is one's own."""
    code, password = owner(), _password()
    return Person(owner=code, teacher=desk.is_teacher(code, password), personal=password is None)


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
            desk.sign_in(owner(), typed, _password() or "")
            st.rerun()
    st.caption("Who signs in may stop, resume, rename, delete and restore every run but the recorded ones.")


def _teacher_signed_in() -> None:
    st.caption(
        "You may stop, resume, rename, delete and restore every run but the recorded ones, in every tab of this "
        f"browser, for {A_LESSON / 3600:g} hours."
    )
    if st.button("Sign out", icon=":material/logout:", key="teacher_sign_out"):
        desk.sign_out(owner())
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
    """Who is signed in as the teacher in this process, and how long the next try has to wait, whoever makes it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wrong, self._last = 0, 0.0
        self._until: dict[str, tuple[float, str]] = {}

    def sign_in(self, owner: str, typed: str, password: str) -> None:
        """Sign this owner in as the teacher.

        Args:
            owner: the browser's owner code.
            typed: what was typed.
            password: what is set; "" lets nobody in.

        Raises:
            CvcoreError: it is wrong, or after several wrong ones, from any browser, the next try has to wait.
        """
        with self._lock:
            now = time.monotonic()
            if now - self._last > A_PAUSE:
                self._wrong = 0
            wait = self._last + min(LONGEST_WAIT, 2.0 ** (self._wrong - FREE_TRIES)) - now
            if self._wrong >= FREE_TRIES and wait > 0:
                raise CvcoreError(f"several wrong passwords were tried; wait {wait:.0f} s and try again")
            self._last = now
            if not password or not hmac.compare_digest(code_of(typed), code_of(password)):
                self._wrong += 1
                raise CvcoreError("this is not the teacher's password; try again")
            self._wrong = 0
            self._until[owner] = now + A_LESSON, code_of(password)

    def sign_out(self, owner: str) -> None:
        """Sign this owner out."""
        self._until.pop(owner, None)

    def is_teacher(self, owner: str, password: str | None) -> bool:
        """Say whether this owner has signed in with the password that is set now, within the last hours."""
        until, known = self._until.get(owner, (0.0, ""))
        return bool(password) and known == code_of(password) and time.monotonic() < until


desk = Desk()


def _identity() -> str | None:
    """Read what identifies this browser: who signed in, or its cookie's token; None where there is neither."""
    if _secret("auth") and st.user.get("is_logged_in"):
        return f"user {st.user.get('iss')} {st.user.get('sub') or st.user.get('email')}"
    return cookie()


def cookie() -> str | None:
    """Read the token that this browser's connection came with; None where it came with none."""
    return owner_cookie.sound(st.context.cookies.get(owner_cookie.COOKIE))


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
