"""Which of the user's ssh keys have a passphrase: asked when a host refuses a login.  Runs in the launcher."""
from __future__ import annotations

import binascii
import os
import re
import subprocess
from typing import Iterator, Sequence


def locked(ssh: Sequence[str]) -> Iterator[str]:
    """The files of keys that this ssh would offer, but for their passphrase."""
    command = [*ssh[:-1], "-G", "--", ssh[-1]]
    try:
        settings = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                  timeout=2).stdout.decode(errors="surrogateescape")
    except (OSError, subprocess.TimeoutExpired):
        return  # not OpenSSH: then there is no more to be known
    for path in re.findall("^identityfile (.*)", settings, re.MULTILINE):
        path = os.path.expanduser(path)
        if os.path.isfile(path) and os.access(path, os.R_OK):
            with open(path, "rb") as file:
                if is_locked(file.read()):
                    yield path


def is_locked(key: bytes) -> bool:
    """Whether a private key's file is encrypted: it says so, or names the cipher behind its magic and a length."""
    body = re.search(rb"OPENSSH PRIVATE KEY-----([^-]*)", key)
    cipher = binascii.a2b_base64(body.group(1))[len("openssh-key-v1") + 5:] if body else b"none"
    return b"ENCRYPTED" in key or not cipher.startswith(b"none")
