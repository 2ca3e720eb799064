"""What xenvm raises when the command's own status is not to be had."""


class Failure(Exception):
    """The machine could not be started, or died; the message says why and what to do."""

    status = 125


class TimeLimit(Failure):
    """The machine was still running when its time was over."""

    status = 124
