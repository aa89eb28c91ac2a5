"""What `doctor` checks of a RabbitMQ that is the broker."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from worker.celery_support import other_brokers, rabbitmq
from worker.errors import BrokerUnavailable, ConfigurationError
from worker.operations import rabbitmq_policies
from worker.operations.checks import Check, Hint
from worker.settings.environment import variable_name
from worker.settings.model import Settings

_NAME = "CELERY_BROKER_URL"


def checks(settings: Settings) -> Iterator[tuple[str, Check]]:
    """Yield the checks by name; of one that does not answer, only that."""
    url = settings.broker_url.get_secret_value()
    yield _NAME, partial(_version, url)
    try:
        other_brokers.check(url)
    except BrokerUnavailable:
        return  # said just now
    yield f"{_NAME} rights", partial(_rights, url)
    yield f"{_NAME} room", partial(_room, url)
    yield f"{_NAME} queues", partial(_queues, url)
    yield f"{_NAME} policies", partial(_policies, settings)


def _version(url: str) -> str:
    product, version = rabbitmq.product_and_version(url)
    if product != "RabbitMQ":
        raise ConfigurationError(f"{_NAME} names a {product}: name a RabbitMQ, or a Redis")
    if rabbitmq.numbers(version) < rabbitmq.OLDEST:
        oldest = ".".join(map(str, rabbitmq.OLDEST))
        raise ConfigurationError(
            f"{_NAME} names a RabbitMQ {version}: it must be {oldest} or newer"
        )
    return f"{product} {version}"


def _rights(url: str) -> str:
    if missing := rabbitmq.missing_rights(url):
        listed = "; ".join(f"{right} {', '.join(names)}" for right, names in missing.items())
        raise ConfigurationError(
            f"our user may not {listed}: give it the permissions that docs/deploy.md names for "
            "RabbitMQ"
        )
    return "our user may configure, write and read what we need"


def _room(url: str) -> str:
    if rabbitmq.is_full(url):
        raise ConfigurationError(
            "it takes no messages: its memory or its disk is full (rabbitmqctl status names the "
            "alarm). Give it more, or find who fills its queues"
        )
    return "it takes messages"


def _queues(url: str) -> str:
    if strange := rabbitmq.strange_queues(url):
        listed = ", ".join(f"{queue} ({why})" for queue, why in strange.items())
        raise ConfigurationError(
            f"these were declared otherwise than workers declare them: {listed}. A worker that "
            "takes them connects for ever: stop what declares them, and delete them once they "
            "are empty"
        )
    kinds = rabbitmq.kinds(url)
    if not kinds:
        raise Hint(
            "none is declared yet, a worker does that when it starts. If they are to be quorum "
            "queues, say so first: rabbitmqctl add_vhost … --default-queue-type quorum"
        )
    return "quorum queues" if any(kinds.values()) else "classic queues"


def _policies(settings: Settings) -> str:
    if settings.rabbitmq_api_url is None:
        raise Hint(
            f"not looked at, AMQP does not tell them: set {variable_name('rabbitmq_api_url')}, or "
            "see by yourself that none of those that `rabbitmqctl list_policies` lists for our "
            f"queues has {', '.join(rabbitmq_policies.LOSE_JOBS)}"
        )
    found = rabbitmq_policies.harmful(
        settings.rabbitmq_api_url.get_secret_value(),
        settings.broker_url.get_secret_value(),
        settings.ca_certificates,
    )
    if found:
        listed = "; ".join(f"{queue} has {', '.join(bad)}" for queue, bad in found.items())
        raise ConfigurationError(
            f"a policy loses jobs: {listed}. Have its pattern leave out the queues of the workers"
        )
    return "none loses jobs"
