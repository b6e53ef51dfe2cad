"""Errors that a person reads: each message says what is wrong and what to do about it."""


class AuditError(Exception):
    """Anything this package refuses or cannot do. The command line prints it as one line and exits with `exit_code`."""

    exit_code = 1


class InvalidInputError(AuditError):
    """The caller's words are off: a date that is none, an end before its start, a negative limit."""

    exit_code = 2


class ConfigurationError(AuditError):
    """A POSTGRES_* or AUDIT_* setting cannot be used."""

    exit_code = 2


class DatabaseError(AuditError):
    """PostgreSQL cannot be reached, refuses the login, or lacks the schema."""


class DatabaseAwayError(DatabaseError):
    """PostgreSQL cannot be reached, or went away: the same question may be answered a little later."""


class EntryError(AuditError):
    """A text or mapping is not a log entry."""
