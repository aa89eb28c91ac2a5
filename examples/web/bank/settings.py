"""The bank's settings.

export SESSION_BROKER_URL=… SESSION_APP_ID=bank SESSION_APP_KEY=…
export BANK_SECRET=… BANK_DB=… BANK_DOMAIN=apps.example.com
export DJANGO_SETTINGS_MODULE=examples.web.bank.settings
django-admin migrate && django-admin runserver
"""

from __future__ import annotations

from pathlib import Path

from starlette.config import Config

config = Config()
SECRET_KEY = config("BANK_SECRET")
DOMAIN = config("BANK_DOMAIN")
ALLOWED_HOSTS = [f"bank.{DOMAIN}", "127.0.0.1"]  # and where the worker sends notices, on a laptop
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": config("BANK_DB")}}
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "session_client.django",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "session_client.django.middleware.Middleware",
]
AUTHENTICATION_BACKENDS = ["session_client.django.backend.Backend"]
# The page that asks for a factor knows the user too, who has signed in at another app perhaps.
MOSAIC_SESSIONS = {"COOKIE_DOMAIN": DOMAIN, "ENTRY": "/enter", "SILENT": "all"}
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
ROOT_URLCONF = "examples.web.bank.views"
PAGES = Path(__file__).parents[1] / "templates"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": [PAGES]}]
USE_TZ = True
