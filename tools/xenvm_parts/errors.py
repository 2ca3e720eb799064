"""What xenvm raises when the command's own status is not to be had."""


class Failure(Exception):
    """The command never started; the message says why and what to do."""

    status = 125


class BootFailure(Failure):
    """The machine died, or stood still, before the command started."""


class Death(Failure):
    """The machine died while the command ran."""

    status = 122


class TimeLimit(Failure):
    """The machine was still running when its time was over."""

    status = 124
