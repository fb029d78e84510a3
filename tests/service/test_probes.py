"""Parts that hang cost a prober its time limit once, and one thread however often they are asked."""

from __future__ import annotations

import threading
import time

import pytest

from service.probes import Probes


def test_answers_and_errors_come_back() -> None:
    def broken() -> None:
        raise OSError("away")

    answers = Probes(seconds=5).ask({"fine": lambda: 1, "broken": broken})
    assert answers["fine"].result() == 1
    with pytest.raises(OSError, match="away"):
        answers["broken"].result()


def test_a_part_that_hangs_is_left_and_not_asked_again_until_it_answers() -> None:
    release, asked = threading.Event(), []

    def hangs() -> int:
        asked.append(1)
        release.wait(20)
        return len(asked)

    probes = Probes(seconds=0.1)
    begun = time.monotonic()
    for _ in range(3):
        answers = probes.ask({"hangs": hangs, "fine": lambda: 1})
        assert isinstance(answers["hangs"].exception(), TimeoutError)
        assert answers["fine"].result() == 1
    assert time.monotonic() - begun < 5
    assert len(asked) == 1
    release.set()
    end = time.monotonic() + 10
    while probes.ask({"hangs": hangs})["hangs"].exception() is not None:
        assert time.monotonic() < end
    assert len(asked) >= 1


def test_a_fresh_answer_serves_again() -> None:
    count = iter(range(10))
    probes = Probes(seconds=5)
    assert [probes.ask({"n": lambda: next(count)}, fresh=60)["n"].result() for _ in range(3)] == [0, 0, 0]
    assert [probes.ask({"n": lambda: next(count)})["n"].result() for _ in range(2)] == [1, 2]
