"""Who sits at a browser: owners, the teacher's password, Streamlit's own login."""

import hashlib

import pytest
from pages_drawn import sound, words
from streamlit.testing.v1 import AppTest
from two_students import ANNA, BEN, PASSWORD, code

import people
from cvcore.errors import CvcoreError

PAGE = """
import people
import streamlit as st

who = people.person()
st.text(f"{who.owner} teacher={who.teacher} personal={who.personal}")
people.no_cookie_caption()
people.sign_in()
"""
USER = {"is_logged_in": True, "iss": "https://school", "sub": "42", "email": "anna@school"}


@pytest.fixture(autouse=True)
def desk(monkeypatch):
    monkeypatch.setattr(people, "desk", people.Desk())
    return people.desk


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(people.time, "monotonic", lambda: now[0])
    return now


def visit(monkeypatch, token, secrets=None, user=None):
    monkeypatch.setattr(people, "cookie", lambda: token)
    page = AppTest.from_string(PAGE, default_timeout=300)
    for name, value in (secrets or {}).items():
        page.secrets[name] = value
    for name, value in (user or {}).items():
        page.user[name] = value
    return page.run()


def who(page):
    (text,) = page.text
    return text.value


def test_an_owner_is_a_hash_of_the_cookie_which_the_page_never_shows(monkeypatch):
    page = visit(monkeypatch, ANNA)
    assert who(page) == f"{hashlib.sha256(ANNA.encode()).hexdigest()[:16]} teacher=False personal=True"
    assert sound(page) and "no cookie" not in words(page) and ANNA not in str(page.main)
    assert who(visit(monkeypatch, ANNA)) == who(page) != who(visit(monkeypatch, BEN))


def test_a_browser_without_cookies_has_an_owner_for_its_visit_and_is_told(monkeypatch):
    page = visit(monkeypatch, None)
    first = who(page)
    assert "keeps no cookie" in words(page) and sound(page)
    assert who(page.run()) == first  # as long as the visit
    assert who(visit(monkeypatch, None)) != first


def test_without_a_secrets_file_there_is_no_teacher_and_nothing_to_sign_in_to(monkeypatch):
    page = visit(monkeypatch, ANNA)
    assert sound(page) and not page.button and not page.text_input and not page.warning


def test_the_teacher_signs_in_is_the_teacher_in_every_tab_and_signs_out(monkeypatch):
    secrets = {"teacher": {"password": PASSWORD}}
    page = visit(monkeypatch, ANNA, secrets)
    assert who(page) == f"{code(ANNA)} teacher=False personal=False"
    page.text_input(key="teacher_password").set_value("guess")
    page.button[0].click().run()
    assert "this is not the teacher's password" in words(page) and "teacher=False" in who(page)
    page.text_input(key="teacher_password").set_value(PASSWORD)
    page.button[0].click().run()
    assert sound(page) and "teacher=True" in who(page) and PASSWORD not in str(page.main)
    assert "teacher=True" in who(visit(monkeypatch, ANNA, secrets))
    assert "teacher=False" in who(visit(monkeypatch, BEN, secrets))
    page = visit(monkeypatch, ANNA, secrets)
    page.button(key="teacher_sign_out").click().run()
    assert "teacher=False" in who(page)


def test_another_password_and_no_password_any_more_sign_the_teacher_out(monkeypatch, desk):
    desk.sign_in(code(ANNA), PASSWORD, PASSWORD)
    assert "teacher=True" in who(visit(monkeypatch, ANNA, {"teacher": {"password": PASSWORD}}))
    assert "teacher=False personal=False" in who(visit(monkeypatch, ANNA, {"teacher": {"password": "new"}}))
    assert "teacher=False personal=True" in who(visit(monkeypatch, ANNA))


@pytest.mark.parametrize("section", [{}, {"password": ""}, {"password": 7}, "password", {"pass": "x"}])
def test_a_password_that_is_none_lets_nobody_in_and_opens_nothing(monkeypatch, section):
    page = visit(monkeypatch, ANNA, {"teacher": section})
    assert "teacher=False personal=False" in who(page) and sound(page)
    for typed in ("", "7", "password"):
        page.text_input(key="teacher_password").set_value(typed)
        page.button[0].click().run()
        assert "teacher=False" in who(page)


def test_a_secrets_file_that_cannot_be_read_opens_nothing(monkeypatch, tmp_path):
    broken = tmp_path / "secrets.toml"
    broken.write_text('[teacher]\npassword = "chalk')
    monkeypatch.setattr(people.st, "get_option", lambda _name: [str(broken)])
    assert "teacher=False personal=False" in who(visit(monkeypatch, ANNA))


def test_wrong_passwords_slow_down_the_next_try_whoever_makes_it(desk, clock):
    for browser in (ANNA, BEN, ANNA):
        with pytest.raises(CvcoreError, match="not the teacher's password"):
            desk.sign_in(code(browser), "guess", PASSWORD)
        clock[0] += 0.01
    for expected in (1, 2, 4, 8, 16, 30, 30):
        with pytest.raises(CvcoreError, match=f"wait {expected} s"):  # even with the right one
            desk.sign_in(code(BEN), PASSWORD, PASSWORD)
        clock[0] += expected + 0.1
        with pytest.raises(CvcoreError, match="not the teacher's password"):
            desk.sign_in(code(BEN), "guess", PASSWORD)
    clock[0] += 31
    desk.sign_in(code(ANNA), PASSWORD, PASSWORD)
    assert desk.is_teacher(code(ANNA), PASSWORD) and not desk.is_teacher(code(BEN), PASSWORD)
    with pytest.raises(CvcoreError, match="not the teacher's password"):  # at once again
        desk.sign_in(code(BEN), "guess", PASSWORD)


def test_a_teacher_who_forgets_to_sign_out_is_signed_out_after_some_hours(desk, clock):
    desk.sign_in(code(ANNA), PASSWORD, PASSWORD)
    clock[0] += people.A_LESSON - 1
    assert desk.is_teacher(code(ANNA), PASSWORD)
    clock[0] += 2
    assert not desk.is_teacher(code(ANNA), PASSWORD)


def test_who_signed_in_owns_runs_by_name_whatever_the_browser(monkeypatch):
    auth = {"auth": {"client_id": "x", "cookie_secret": "y"}}
    signed_in = who(visit(monkeypatch, ANNA, auth, USER))
    assert who(visit(monkeypatch, None, auth, USER)) == signed_in
    assert signed_in.split()[0] == people.code_of("user https://school 42") != code(ANNA)
    assert who(visit(monkeypatch, ANNA, auth, {**USER, "sub": "43"})) != signed_in
    assert who(visit(monkeypatch, ANNA, auth, {"is_logged_in": False})).startswith(code(ANNA))


def test_a_login_that_is_not_set_up_names_nobody(monkeypatch):
    page = visit(monkeypatch, ANNA, None, USER)
    assert who(page).startswith(code(ANNA)) and sound(page) and not page.button


def test_a_login_that_is_set_up_without_authlib_is_not_offered(monkeypatch):
    monkeypatch.setattr(people.importlib.util, "find_spec", lambda _name: None)
    page = visit(monkeypatch, ANNA, {"auth": {"client_id": "x"}})
    assert sound(page) and not page.button


def test_a_login_is_offered_for_each_provider(monkeypatch):
    monkeypatch.setattr(people.importlib.util, "find_spec", lambda _name: object())
    page = visit(monkeypatch, ANNA, {"auth": {"redirect_uri": "x", "google": {"client_id": "1"}, "school": {}}})
    assert [button.label for button in page.button] == ["Sign in with google", "Sign in with school"]
    page = visit(monkeypatch, ANNA, {"auth": {"client_id": "x"}})
    assert [button.label for button in page.button] == ["Sign in"]
    page = visit(monkeypatch, ANNA, {"auth": {"client_id": "x"}}, USER)
    assert [button.label for button in page.button] == ["Sign out"]
