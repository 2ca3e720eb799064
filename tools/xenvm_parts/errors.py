"""The exceptions for runs that have no exit status of the command."""


class Failure(Exception):
    """The command never started; the message says why and what to do."""

    status = 125


class BootFailure(Failure):
    """The machine died or hung before the command started."""


class Death(Failure):
    """The machine died while the command ran."""

    status = 122


class TimeLimit(Failure):
    """The machine still ran at its time limit."""

    status = 124
