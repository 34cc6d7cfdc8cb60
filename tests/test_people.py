"""Who sits at a browser: owners, the teacher's password, Streamlit's own login."""

import hashlib
import itertools
import re

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
    desk.sign_in(people.Seat(code(ANNA)), PASSWORD, PASSWORD)
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


def at(token, address="", agent="Firefox"):
    return people.Seat(code(token), address, agent)


def guess(desk, seat):
    with pytest.raises(CvcoreError, match="not the teacher's password"):
        desk.sign_in(seat, "guess", PASSWORD)


def refused_for(desk, seat, typed=PASSWORD):
    """Try, be told to wait, and return for how many seconds."""
    with pytest.raises(CvcoreError, match="several wrong passwords") as caught:
        desk.sign_in(seat, typed, PASSWORD)
    return int(re.search(r"wait (\d+) s", str(caught.value))[1])


def test_wrong_passwords_slow_down_the_browser_that_tries_them_and_no_other(desk, clock):
    for _ in range(3):
        guess(desk, at(BEN))
    for expected in (1, 2, 4, 8, 16, 30, 30):
        assert refused_for(desk, at(BEN)) == expected  # even with the right one
        desk.sign_in(at(ANNA), PASSWORD, PASSWORD)
        clock[0] += expected - 0.1
        assert refused_for(desk, at(BEN)) == 1  # never "0 s"
        clock[0] += 0.2
        guess(desk, at(BEN))
    clock[0] += 31
    assert desk.is_teacher(at(ANNA), PASSWORD) and not desk.is_teacher(at(BEN), PASSWORD)
    desk.sign_in(at(BEN), PASSWORD, PASSWORD)
    guess(desk, at(BEN))  # at once again


def passed(desk, clock, seats, seconds, every=0.5):
    """Guess without a pause, each time from the next seat, and count the guesses that were not refused."""
    until, count = clock[0] + seconds, 0
    while clock[0] < until:
        try:
            desk.sign_in(next(seats), "guess", PASSWORD)
        except CvcoreError as error:
            count += "not the teacher" in str(error)
        clock[0] += every
    return count


def new_browsers(addresses):
    return (at(f"{number:032x}", addresses(number)) for number in itertools.count())


@pytest.mark.parametrize("addresses", [lambda number: "10.0.0.1", lambda number: f"10.0.{number % 200}.1"],
                         ids=["one address", "many addresses"])  # fmt: skip
def test_a_browser_that_drops_its_cookie_guesses_no_faster(addresses, desk, clock):
    assert passed(desk, clock, new_browsers(addresses), 3600) <= 3600 / 5 + 40


def test_the_teacher_gets_in_while_a_program_guesses_behind_the_same_address(desk, clock):
    school = "10.0.0.1"
    desk.seen(code(ANNA))
    desk.sign_in(at(BEN, school), PASSWORD, PASSWORD)
    desk.sign_out(at(BEN, school))
    attack = new_browsers(lambda number: school)
    passed(desk, clock, attack, 700)
    while "not the teacher" not in tried(desk, next(attack)):
        clock[0] += 0.1
    assert 1 <= refused_for(desk, at("e" * 32, school)) <= 5  # who comes new waits for seconds
    desk.sign_in(at(ANNA, school), PASSWORD, PASSWORD)  # who has been here for a while does not
    desk.sign_in(at(BEN, school), PASSWORD, PASSWORD)  # nor does who has signed in before
    desk.sign_in(at(BEN, school), PASSWORD, PASSWORD)
    clock[0] += 5.1
    desk.sign_in(at("e" * 32, school), PASSWORD, PASSWORD)


def test_a_class_that_guesses_all_the_time_keeps_the_teacher_out_for_minutes_at_most(desk, clock):
    school = "10.0.0.1"
    pupils = [at(f"{number:032x}", school) for number in range(30)]
    for seat in (*pupils, at(ANNA, school)):
        desk.seen(seat.owner)
    clock[0] += 121
    passed(desk, clock, itertools.cycle(pupils), 600, every=0.1)
    desk.sign_in(at(ANNA, school), PASSWORD, PASSWORD)
    assert passed(desk, clock, itertools.cycle(pupils), 3600, every=0.1) <= 2 * 3600 / 5 + 40


def tried(desk, seat):
    with pytest.raises(CvcoreError) as caught:
        desk.sign_in(seat, "guess", PASSWORD)
    return str(caught.value)


def test_any_number_of_wrong_passwords_still_lets_the_right_one_in(desk, clock):
    for _ in range(1500):
        guess(desk, at(BEN))
        clock[0] += 30.1
    desk.sign_in(at(BEN), PASSWORD, PASSWORD)


def test_browsers_that_are_gone_are_forgotten_before_one_that_is_here(desk, clock, monkeypatch):
    monkeypatch.setattr(people, "MOST_BROWSERS", 50)
    desk.seen(code(ANNA))
    for number in range(700):
        clock[0] += 1
        desk.seen(f"{number:016x}")
        desk.seen(code(ANNA))
    assert len(desk._seen) == 50
    for seat in itertools.islice(new_browsers(lambda number: ""), 10):
        guess(desk, seat)
    assert refused_for(desk, at(BEN)) == 1
    desk.sign_in(at(ANNA), PASSWORD, PASSWORD)


@pytest.mark.parametrize("elsewhere", [("10.0.0.2", "Firefox"), ("10.0.0.1", "Chrome"), ("", "")])
def test_the_cookie_alone_makes_nobody_the_teacher(elsewhere, monkeypatch):
    secrets = {"teacher": {"password": PASSWORD}}
    monkeypatch.setattr(people, "_connection", lambda: ("10.0.0.1", "Firefox"))
    page = visit(monkeypatch, ANNA, secrets)
    page.text_input(key="teacher_password").set_value(PASSWORD)
    page.button[0].click().run()
    assert "teacher=True" in who(page) and "Sign out before you leave" in words(page)
    monkeypatch.setattr(people, "_connection", lambda: elsewhere)
    assert "teacher=False" in who(visit(monkeypatch, ANNA, secrets))
    monkeypatch.setattr(people, "_connection", lambda: ("10.0.0.1", "Firefox"))
    assert "teacher=True" in who(visit(monkeypatch, ANNA, secrets))


def test_signing_out_signs_a_browser_out_wherever_it_signed_in_from(desk):
    for seat in (at(ANNA, "10.0.0.1"), at(ANNA, "10.0.0.2"), at(BEN)):
        desk.sign_in(seat, PASSWORD, PASSWORD)
    desk.sign_out(at(ANNA, "10.0.0.2"))
    assert not desk.is_teacher(at(ANNA, "10.0.0.1"), PASSWORD) and not desk.is_teacher(at(ANNA, "10.0.0.2"), PASSWORD)
    assert desk.is_teacher(at(BEN), PASSWORD)


def test_a_teacher_who_forgets_to_sign_out_is_signed_out_after_some_hours(desk, clock):
    desk.sign_in(at(ANNA), PASSWORD, PASSWORD)
    clock[0] += people.A_LESSON - 1
    assert desk.is_teacher(at(ANNA), PASSWORD)
    clock[0] += 2
    assert not desk.is_teacher(at(ANNA), PASSWORD)


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
