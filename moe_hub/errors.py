"""Errors that are meant for people: each says what is wrong, where, what is allowed and what to do."""

from __future__ import annotations


class MoeHubError(Exception):
    """Base of every error that a command shows without a traceback."""

    exit_code = 1


class ConfigError(MoeHubError):
    """A config key or value is not usable."""

    exit_code = 2


class DataError(MoeHubError):
    """A data file or source is not usable."""

    exit_code = 2


class RunError(MoeHubError):
    """A run directory, checkpoint or control request is not usable."""
