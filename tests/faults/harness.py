"""The declaration of faults, and the words for their results."""

import time

PATIENCE = 20  # seconds; the longest wait, for busy machines
FAULTS = []


class Fault:
    def __init__(self, name, expected, needs, cause):
        self.name, self.expected, self.needs, self.cause = name, expected, needs, cause


def fault(name, expected, needs=()):
    """Declares a fault. The decorated function causes it and returns the observed result."""

    def declare(cause):
        FAULTS.append(Fault(name, expected, needs, cause))
        return cause

    return declare


def wait_for(look, patience=PATIENCE):
    """Calls `look` until it returns a true value. Returns its last value."""
    end = time.monotonic() + patience
    while not (seen := look()) and time.monotonic() < end:
        time.sleep(0.01)
    return seen


def after(limit, start, slack=3):
    """Returns "after LIMIT s" if that time has passed since `start`, and not much more."""
    took = time.monotonic() - start
    return f"after {limit} s" if limit * 0.95 <= took <= limit + slack else f"after {took:.1f} s"


def within(limit, start):
    """Returns "within LIMIT s" if at most that time has passed since `start`."""
    took = time.monotonic() - start
    return f"within {limit} s" if took <= limit else f"after {took:.1f} s"
