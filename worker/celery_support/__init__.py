"""Celery and kombu, made to keep the delivery promise: transport, consumer, pool, heartbeat."""
