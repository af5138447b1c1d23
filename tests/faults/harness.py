"""How a fault is declared, and the words that its outcome is told in."""

import time

PATIENCE = 20  # seconds, for whatever is waited for on a busy machine
FAULTS = []


class Fault:
    def __init__(self, name, expected, needs, cause):
        self.name, self.expected, self.needs, self.cause = name, expected, needs, cause


def fault(name, expected, needs=()):
    """Declares a fault: the function that follows causes it, and says what it has seen."""

    def declare(cause):
        FAULTS.append(Fault(name, expected, needs, cause))
        return cause

    return declare


def wait_for(look, patience=PATIENCE):
    """The first thing that `look` gives and that counts as true, or its last word."""
    end = time.monotonic() + patience
    while not (seen := look()) and time.monotonic() < end:
        time.sleep(0.01)
    return seen


def after(limit, start, slack=3):
    """Not before `limit` seconds since `start`, and soon then: in words, for a comparison."""
    took = time.monotonic() - start
    return f"after {limit} s" if limit * 0.95 <= took <= limit + slack else f"after {took:.1f} s"


def within(limit, start):
    """Since `start`: in words, for a comparison."""
    took = time.monotonic() - start
    return f"within {limit} s" if took <= limit else f"after {took:.1f} s"
