"""Compilation of kernels: cached where there is a place for it, in one thread where threads would be fatal."""

import logging
import os
import types
from functools import wraps

import numpy as np
from numba import njit
from numba.core import event

_LOG = logging.getLogger("skanomaly")


class _Process:
    """What is known about this process."""

    forked = False  # its parent may have started threads, which do not exist here
    said = False  # that kernels are being compiled
    cached = True


def _note_fork():
    _Process.forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def compiled(**options):
    """Return a decorator that compiles a function, as `numba.njit` does, when it is called first.

    The machine code is stored beside the module, or in the cache folder of the user. Where neither can be written, it
    is compiled again in every process.

    Parameters
    ----------
    **options : dict
        Options of `numba.njit`.

    Returns
    -------
    callable
        Decorator.
    """

    def decorate(function):
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # numba found no folder
            _Process.cached = False
            return njit(**options)(function)

    return decorate


def parallel(**options):
    """Return a decorator that compiles a function with parallel loops.

    In a forked process, the loops run in a single thread: OpenMP kills a process that uses threads after a fork. The
    function must not write into arguments that may be read-only.

    Parameters
    ----------
    **options : dict
        Options of `numba.njit`.

    Returns
    -------
    callable
        Decorator. The function can be called from Python only.
    """

    def decorate(function):
        in_threads = compiled(parallel=True, **options)(function)
        alone = compiled(**options)(_renamed(function, f"{function.__name__}_alone"))

        @wraps(function)
        def run(*args):
            return (alone if _Process.forked else in_threads)(*map(_writable, args))

        return run

    return decorate


class _Alias:
    """The memory of an array, for numpy, which keeps this object and with it the array alive."""

    def __init__(self, array):
        self.array = array
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


def _writable(argument):
    """Return a read-only array as one that is not, since numba compiles a kernel again for read-only arguments."""
    if isinstance(argument, np.ndarray) and not argument.flags.writeable:
        return np.asarray(_Alias(argument))
    return argument


def _renamed(function, name):
    """Return a copy with another name, under which numba caches it."""
    copy = types.FunctionType(
        function.__code__.replace(co_name=name), function.__globals__, name, function.__defaults__, function.__closure__
    )
    copy.__qualname__, copy.__module__ = name, function.__module__
    return copy


class _Announcer(event.Listener):
    """Says, once in a process, that kernels are being compiled, because that takes a while."""

    def on_start(self, event):
        if _Process.said or not event.data["dispatcher"].py_func.__module__.startswith("skanomaly."):
            return
        _Process.said = True
        where = "" if _Process.cached else "; set NUMBA_CACHE_DIR to a writable folder, so that this is done only once"
        _LOG.warning("skanomaly is compiling its kernels for this machine, which takes up to a minute%s.", where)

    def on_end(self, event):
        pass


event.register("numba:compile", _Announcer())
