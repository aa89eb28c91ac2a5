"""People at real browsers: known everywhere after one login, out everywhere after one logout."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from sandbox.processes import poll_until
from sandbox.stack import Stack
from sandbox.web_apps import DOMAIN, PASSWORD, USER, web_apps
from simulator.controls.devices import PasskeyDevice
from tests.browser.pictures import picture

CHROMIUM = "/usr/bin/chromium"
COOKIE = "__Secure-mosaic-sso"
PAGES = {"shop": "Basket of", "forum": "Hello", "bank": "Account of"}


class People:
    """The apps, and whoever sits in front of them."""

    def __init__(self, stack: Stack, addresses: dict[str, str], browser: Browser) -> None:
        self.stack = stack
        self.addresses = addresses
        self.browser = browser

    def sit_down(self) -> Person:
        return Person(self, self.browser.new_context(viewport={"width": 900, "height": 520}))

    def code(self, user_id: str = USER) -> str:
        return self.stack.mosaic.outbox.sent(user_id)[-1].code

    def give_passkey(self, page: Page) -> None:
        """Put a passkey that Mosaic knows into the browser's own authenticator."""
        device, mosaic = PasskeyDevice(), self.stack.mosaic
        mosaic.passkeys.register(USER, device.credential_id, device.public_key)
        mosaic.policy.change(passkey_domain=DOMAIN, passkey_origins=[self.addresses["bank"]])
        devtools = page.context.new_cdp_session(page)
        devtools.send("WebAuthn.enable")
        options = {
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
        }
        added = devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})
        credential = {
            "credentialId": padded(device.credential_id),
            "isResidentCredential": True,
            "rpId": DOMAIN,
            "privateKey": base64.b64encode(device.private_key).decode(),
            "userHandle": base64.b64encode(USER.encode()).decode(),
            "signCount": 0,
        }
        where = {"authenticatorId": added["authenticatorId"], "credential": credential}
        devtools.send("WebAuthn.addCredential", where)


class Person:
    """One browser with its cookies."""

    def __init__(self, people: People, context: BrowserContext) -> None:
        self.people = people
        self.context = context

    def open(self, app: str, path: str = "/") -> Page:
        page = self.context.new_page()
        page.goto(self.people.addresses[app] + path)
        return page

    def sign_in(self, app: str = "shop", user_id: str = USER) -> Page:
        page = self.open(app)
        page.get_by_label("Name").fill(user_id)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("button", name="Sign out").wait_for()
        return page

    def sees(self, app: str) -> str:
        """The heading of the app's first page."""
        page = self.open(app)
        if app == "forum" and page.get_by_role("button", name="Sign out").count():
            page.get_by_text(f"Hello {USER}").wait_for()
        heading = page.get_by_role("heading").inner_text()
        page.close()
        return str(heading)


@pytest.fixture(scope="module")
def people() -> Iterator[People]:
    with web_apps() as (stack, addresses), sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox"],  # it may run as root, and meets nobody's page but ours
        )
        yield People(stack, addresses, browser)
        browser.close()


def padded(base64url: str) -> str:
    raw = base64.urlsafe_b64decode(base64url + "=" * (-len(base64url) % 4))
    return base64.b64encode(raw).decode()


def shoot(page: Page, name: str) -> None:
    page.screenshot(path=picture(f"journey-{name}"))


def test_one_login_one_factor_one_logout_and_the_phone_stays(people: People) -> None:
    laptop, phone = people.sit_down(), people.sit_down()
    asked = laptop.open("shop")
    shoot(asked, "1-login")
    shop = laptop.sign_in("shop")
    shoot(shop, "2-shop")

    forum = laptop.open("forum")
    forum.get_by_text(f"Hello {USER}").wait_for()
    shoot(forum, "3-forum")
    bank = laptop.open("bank")
    bank.get_by_role("button", name="Send me a code").click()
    bank.wait_for_load_state()
    shoot(bank, "4-step-up")
    bank.get_by_label("Code").fill(people.code())
    bank.get_by_role("button", name="Go on").click()
    bank.get_by_text(f"Account of {USER}").wait_for()
    shoot(bank, "5-bank")
    phone.sign_in("forum")
    forum.get_by_role("button", name="Sign out").click()
    forum.get_by_label("Password").wait_for()
    shoot(forum, "6-out")

    assert [laptop.sees(app) for app in ("shop", "forum", "bank")] == ["Sign in"] * 3
    assert phone.sees("shop") == f"Basket of {USER}"


def test_a_code_that_is_clicked_twice_is_a_second_factor_at_each_app(people: People) -> None:
    for number, (app, heading) in enumerate(PAGES.items()):
        user_id = f"bob{number}"
        people.stack.mosaic.add_user(user_id, password=PASSWORD, phone=f"+44163296001{number}")
        person = people.sit_down()
        person.sign_in("shop", user_id).close()
        page = person.open(app, "/step-up?next=/")
        page.get_by_role("button", name="Send me a code").click()
        page.wait_for_load_state()
        page.get_by_label("Code").fill(people.code(user_id))

        go_on = page.get_by_role("button", name="Go on").bounding_box()
        assert go_on is not None
        with people.stack.processes["worker"].frozen():  # so that the first click gets no answer
            for _ in range(2):
                with page.expect_request("**/step-up?next=/"):
                    page.mouse.click(go_on["x"] + 9, go_on["y"] + 9)

        page.get_by_text(f"{heading} {user_id}").wait_for()


def test_a_passkey_is_a_second_factor(people: People) -> None:
    person = people.sit_down()
    person.sign_in("forum")
    bank = person.open("bank")
    people.give_passkey(bank)

    bank.get_by_role("button", name="Use a passkey").click()

    bank.get_by_text(f"Account of {USER}").wait_for()


def test_the_back_button_shows_nobodys_page_after_a_logout(people: People) -> None:
    person = people.sit_down()
    for app, pages in (("shop", 3), ("forum", 1)):
        page = person.sign_in(app)
        page.get_by_role("button", name="Sign out").click()
        page.get_by_label("Password").wait_for()

        page.goto("about:blank")
        for _ in range(pages):
            page.go_back()
            assert page.get_by_role("heading").inner_text() == "Sign in"


def test_two_tabs_that_wait_for_a_login_both_know_of_it(people: People) -> None:
    person = people.sit_down()
    waiting = person.open("shop")

    person.sign_in("forum")
    waiting.reload()
    waiting.goto(people.addresses["shop"])

    assert waiting.get_by_role("heading").inner_text() == f"Basket of {USER}"


def test_a_cookie_that_a_sibling_host_plants_signs_nobody_in(people: People) -> None:
    victim, attacker = people.sit_down(), people.sit_down()
    victim.sign_in()
    attacker.sign_in()
    planted = next(c for c in attacker.context.cookies() if c["name"] == COOKIE)

    # A second one of the same name, of a path that is more exact and so comes first.
    victim.context.add_cookies(
        [
            {
                "name": COOKIE,
                "value": planted["value"],
                "domain": f"shop.{DOMAIN}",
                "path": "/",
                "secure": True,
            }
        ]
    )

    assert victim.sees("shop") == "Sign in"
    assert victim.sees("forum") == f"Hello {USER}"


def test_a_form_of_another_site_signs_nobody_out(people: People) -> None:
    person = people.sit_down()
    person.sign_in()
    evil = person.context.new_page()
    evil.goto("data:text/html,<form method=post><button>Win</button></form>")
    evil.evaluate(
        "address => { document.forms[0].action = address }",
        people.addresses["shop"] + "/logout",
    )

    evil.get_by_role("button").click()

    poll_until(lambda: "not sent by a page" in evil.content(), 10, what="the refusal")
    assert person.sees("shop") == f"Basket of {USER}"
