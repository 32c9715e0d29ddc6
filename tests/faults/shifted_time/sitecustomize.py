"""A process whose clock is wrong: put this folder on its PYTHONPATH, and by how many seconds into
FAULTS_CLOCK_SHIFT_S. The time of day is shifted wherever Python asks for it; durations are not.
"""

from __future__ import annotations

import datetime
import os
import time

_shift_s = float(os.environ["FAULTS_CLOCK_SHIFT_S"])
_shift = datetime.timedelta(seconds=_shift_s)
_real = datetime.datetime
_time, _time_ns = time.time, time.time_ns


class _Shifted(type):
    """Every real datetime is one of ours, too."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _real)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _real)


class _Datetime(_real, metaclass=_Shifted):
    """The class `datetime`, which makes real datetimes; only its clock is another."""

    __slots__ = ()

    def __new__(cls, *arguments, **named):
        return _real(*arguments, **named)

    @classmethod
    def now(cls, tz=None):
        return _real.now(tz) + _shift

    @classmethod
    def today(cls):
        return _real.today() + _shift

    @classmethod
    def utcnow(cls):
        return _real.now(datetime.UTC).replace(tzinfo=None) + _shift


_Datetime.__name__ = _Datetime.__qualname__ = "datetime"
datetime.datetime = _Datetime
time.time = lambda: _time() + _shift_s
time.time_ns = lambda: _time_ns() + int(_shift_s * 1_000_000_000)
