"""Failures that wait in the outbox become one message to people."""
