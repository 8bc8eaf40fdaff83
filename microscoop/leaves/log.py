"""microscoop.logger: a logging.Logger with the launcher's line, `[time] h2/3 module LEVEL message`, on stderr.

Runs in whatever process asks for it.
"""
from __future__ import annotations

import logging
import sys

from .. import futures
from ..serial import HERE

FORMAT = "[%%(asctime)-15s] %s %%(module)-9s %%(levelname)-7s %%(message)s"


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]
    format = logging.Handler.format                # not that of child.py, which would name the worker once more


def _made() -> logging.Logger:
    logger, handler, owner = logging.getLogger("microscoop"), _Handler(sys.stderr), futures.current()
    handler.setFormatter(logging.Formatter(FORMAT % (owner.where if owner else HERE)))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return logger


logger = _made()
