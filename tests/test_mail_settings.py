"""Settings and templates of mails: a mistake is found at the start."""

import pytest

from security import mail
from security.mail import load_templates
from tests import links
from tests.application import new_application
from web.application import ConfigurationError


def test_text_of_a_user_is_no_html():
    templates = load_templates()
    values = {"login": "<i>&", "url": links.URL, "link": links.URL, "hours": "an hour"}
    for kind, template in templates.items():
        assert "<i>&" in template.text.render(values) or kind == "registration"
        assert "<i>&" not in template.html.render(values)


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("reset.txt", "Subject: x\n\n{{ link }} {{ password }}", "'password' is undefined"),
        ("reset.txt", "Subject: x\n\nno link", "it lacks {{ link }}"),
        ("reset.txt", "{{ link }}", "begin with a line `Subject"),
        ("reset.txt", "Subject: {{ login }}\n\n{{ link }}", "begin with a line `Subject"),
        ("reset.html", "{{ link", "unexpected end"),
        ("reset.html", None, "No such file"),
    ],
)
def test_mistake_in_a_template_is_found_at_the_start(tmp_path, name, text, why):
    for file in mail.MAILS.iterdir():
        (tmp_path / file.name).write_text(file.read_text())
    (tmp_path / name).unlink()
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=r"mails/reset: ") as error:
        load_templates(tmp_path)
    assert why in str(error.value)


SERVER = "must be like smtp://user:password@mail.example.org:587"
PUBLIC = "must be the address of Acme for browsers"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ACME_MAIL": "smtp://"}, SERVER),
        ({"ACME_MAIL": "https://x.org"}, SERVER),
        ({"ACME_MAIL": "smtp://susie:Secret@"}, SERVER),
        ({"ACME_MAIL": "smtp://susie@x.org"}, SERVER),
        ({"ACME_MAIL": "smtp://x.org/path"}, SERVER),
        ({"ACME_MAIL": "smtp://x.org:99999"}, SERVER),
        ({"ACME_MAIL": "smtp://susie:Pässword@x.org"}, SERVER),
        ({"ACME_MAIL_FROM": "acme"}, "must be an address"),
        ({"ACME_MAIL_FROM": ""}, "ACME_MAIL needs ACME_MAIL_FROM"),
        ({"ACME_URL": ""}, "ACME_MAIL needs ACME_URL"),
        ({"ACME_URL": "http://acme.org"}, PUBLIC),
        ({"ACME_URL": "https://susie@acme.org"}, PUBLIC),
        ({"ACME_URL": "https://acme.org/#x"}, PUBLIC),
        ({"ACME_URL": "https://acme.org:x"}, PUBLIC),
        ({"ACME_URL": "javascript:alert(1)"}, PUBLIC),
        ({"ACME_REGISTRATION": "yes"}, "ACME_REGISTRATION=yes is unknown: use off or open"),
        ({"ACME_MAIL": ""}, "ACME_REGISTRATION=open needs ACME_MAIL"),
    ],
)
def test_wrong_setting_is_refused_with_its_remedy(settings, message):
    with (
        pytest.raises(ConfigurationError) as error,
        new_application(**(links.SETTINGS | settings)),
    ):
        pass
    assert message in error.value.message
    for secret in "Secret", "Pässword":
        assert secret not in error.value.message
