"""Functions that run in several threads, and a survey that is interrupted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from ampho.cli.call import Terminated
from ampho.cli.fleet.output import Lines, ProgressLine
from ampho.cli.fleet.run import _changing_nothing
from ampho.cli.group import Failure
from ampho.sync import threads


def test_at_most_a_number_of_functions_run_at_the_same_time() -> None:
    running, most = 0, 0
    lock = threading.Lock()

    def work(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1
        return number

    functions: Iterator[Callable[[], int]] = (lambda number=number: work(number) for number in range(20))
    assert sorted(threads.at_once(functions, 3)) == list(range(20))
    assert 1 < most <= 3
    assert list(threads.at_once(iter(()), 3)) == []


def test_an_error_of_a_function_is_raised() -> None:
    def fail() -> int:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        list(threads.at_once(iter([lambda: 1, fail]), 2))


def test_functions_that_hang_are_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "SECONDS_TO_END", 0.1)
    over = threading.Event()
    found = threads.at_once(iter([over.wait, lambda: True, over.wait]), 3)
    begin = time.monotonic()
    assert next(found)
    found.close()
    assert time.monotonic() - begin < 2
    over.set()


@pytest.mark.parametrize(
    ("kind", "word", "code"), [(KeyboardInterrupt, "Interrupted", 130), (Terminated, "Termin", 143)]
)
def test_an_interrupted_survey_changed_nothing(kind: type[BaseException], word: str, code: int) -> None:
    with pytest.raises(Failure, match=f"{word}.* before the first upgrade") as caught, _changing_nothing(Lines()):
        raise kind
    assert caught.value.exit_code == code


def test_the_line_of_a_survey_is_drawn_some_times_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    shown = ProgressLine()
    for number in range(2_000):
        shown.looked(number)
    assert capsys.readouterr().out.count("Looking at the databases: ") < 100
    Lines().looked(1)
    assert capsys.readouterr().out == ""
