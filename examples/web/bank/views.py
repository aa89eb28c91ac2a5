"""A bank's views: money only with a second factor, added to the session that another app opened."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import include, path

from session_client import (
    Authenticated,
    BeginWebauthn,
    Code,
    Denied,
    LoginRequired,
    Password,
    SendOtp,
    StepUpRequired,
    Webauthn,
    WebauthnBegun,
)
from session_client.django import back, begin, complete, log_in, log_out, signed_in


@signed_in(amr=["mfa"], max_age=3600)
def account(request: HttpRequest) -> HttpResponse:
    """Show the account of whoever is at the browser."""
    return render(request, "bank/account.html", {"user": request.user.get_username()})


def login(request: HttpRequest) -> HttpResponse:
    """Ask for name and password."""
    if request.method == "POST":
        typed = Password(request.POST.get("user", ""), request.POST.get("password", ""))
        match log_in(request, typed):
            case Authenticated() | StepUpRequired():  # the page that needs a factor asks for it
                return back(request)
            case Denied() | LoginRequired():
                error = {"error": "That was not right."}
                return render(request, "bank/login.html", error, status=403)
    return render(request, "bank/login.html")


def second_factor(request: HttpRequest) -> HttpResponse:
    """Have a code sent, and take it; or take what a passkey has signed."""
    sent = request.POST
    if request.method == "POST" and "send" in sent:
        match begin(request, SendOtp("sms"), step_up=True):  # to whom it goes the worker knows
            case LoginRequired():  # signed out meanwhile: the page asks for a login
                return back(request)
            case Denied():
                error = {"error": "No code can be sent just now. Try again in a while."}
                return render(request, "bank/code.html", error, status=403)
    elif request.method == "POST":
        proof = Webauthn(sent["signed"]) if "signed" in sent else Code(sent.get("code", ""))
        match complete(request, proof, step_up=True):
            case Authenticated() | LoginRequired() | StepUpRequired():
                return back(request)  # the page says what is missing
            case Denied():
                return render(request, "bank/code.html", {"error": "That was not it."}, status=403)
    return render(request, "bank/code.html")


def passkey(request: HttpRequest) -> HttpResponse:
    """Say what the browser's authenticator is to sign."""
    # Keys that are not discoverable answer only to their user's name, which is the user id here.
    # No user is known where an operator wants a factor of every session: then any passkey is asked.
    match begin(request, BeginWebauthn(request.user.get_username() or None), step_up=True):
        case WebauthnBegun(options=options):
            return JsonResponse(options)
        case Denied() | LoginRequired():
            return JsonResponse({}, status=403)


urlpatterns = [
    path("", account),
    path("login", login),
    path("step-up", second_factor),
    path("passkey", passkey),
    path("logout", log_out),
    path("", include("session_client.django.urls")),
]
