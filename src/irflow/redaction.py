"""Everything that a process says on its own is redacted: logs of all libraries, and what ends a program or a thread.

Whatever handlers and formatters there are, now or later: a record is cleaned on its way from the logger to them. Some
format its exception themselves (Prefect's JSON, Rich), so an exception that tells a secret is replaced by one that
does not. Children that are forked inherit all this; a new program has to call install() itself.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
import warnings
from typing import Any

from irflow.core.revealed import redact, redact_all

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PLAIN = (str, int, float, bool, type(None))

_handle = logging.Logger.handle
_format_warning = warnings.formatwarning


def install() -> None:
    """Redact whatever this process says from now on. Called first by every irflow program; again does nothing."""
    logging.Logger.handle = _handle_clean  # type: ignore[method-assign]
    logging.Handler.handleError = _handler_failed  # type: ignore[method-assign]
    warnings.formatwarning = _warning
    sys.excepthook = _ended
    # Somebody else's hook, such as a test runner's, knows what it does.
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _thread_ended
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _unraisable


def clean(record: logging.LogRecord) -> None:
    """Take secrets out of a record: its message, its exception, its stack, its extras."""
    _clean_message(record)
    if record.exc_text:
        record.exc_text = redact(record.exc_text)
    if record.exc_info:
        _clean_exception(record)
    if record.stack_info:
        record.stack_info = redact(record.stack_info)
    for name in record.__dict__.keys() - _STANDARD:
        record.__dict__[name] = redact_all(record.__dict__[name])


def told(error: BaseException) -> str:
    """The traceback as text, without secrets."""
    return redact("".join(traceback.format_exception(error)))


def _handle_clean(self: logging.Logger, record: logging.LogRecord) -> None:
    clean(record)
    _handle(self, record)


def _clean_message(record: logging.LogRecord) -> None:
    try:
        text = record.getMessage()
    except Exception:  # noqa: BLE001 - a wrong call; reporting it would show its arguments
        text = f"{record.msg!r} % {record.args!r}"
        record.msg, record.args = text, None
    found = redact(text)
    args = record.args.values() if isinstance(record.args, dict) else record.args or ()
    # Some formatters want the arguments (uvicorn's), so these stay where nothing in them can say more than the text.
    if found != text or not isinstance(record.msg, str) or not all(isinstance(one, _PLAIN) for one in args):
        record.msg, record.args = found, None


def _clean_exception(record: logging.LogRecord) -> None:
    info = record.exc_info
    if not isinstance(info, tuple) or info[1] is None:
        return
    kind, error, trace = info
    text = "".join(traceback.format_exception(kind, error, trace)).rstrip("\n")
    found = redact(text)
    if found != text:
        other = _stand_in(error)
        record.exc_info, record.exc_text = (type(other), other, None), found


def _stand_in(error: BaseException) -> Exception:
    """An exception of the same name that says the same, but for the secret; its traceback holds no variables."""
    kind = type(error)
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    found: Exception = type(kind.__name__, (Exception,), names)(redact(str(error)))
    return found


def _write(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(text)
        sys.stderr.flush()


def _ended(_kind: type[BaseException], error: BaseException, _trace: Any) -> None:
    _write(told(error))


def _thread_ended(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        name = args.thread.name if args.thread else "of unknown name"
        _write(f"Exception in thread {name}:\n{told(args.exc_value)}")


def _unraisable(args: sys.UnraisableHookArgs) -> None:
    said = told(args.exc_value) if args.exc_value is not None else ""
    _write(redact(f"{args.err_msg or 'Exception ignored in'}: {args.object!r}\n") + said)


def _handler_failed(self: logging.Handler, record: logging.LogRecord) -> None:
    """In place of logging's own, which shows the record as it came."""
    error = sys.exc_info()[1]
    if logging.raiseExceptions and error is not None:
        _write(f"--- Logging error, from {record.name}:{record.lineno} ---\n{told(error)}")


def _warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return redact(_format_warning(message, category, filename, lineno, line))
