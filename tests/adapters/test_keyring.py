"""irflow's own keyring: nothing of it can be read without its key, and no writer loses what another wrote."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from keyring.errors import InitError, KeyringLocked, PasswordDeleteError

from irflow.adapters.keyring.encrypted_file import EncryptedFileKeyring
from irflow.adapters.keyring.secrets import KeyringSecrets, open_backend
from irflow.core.errors import ConfigurationError, ServiceMissing
from irflow.core.secret import SecretRef, SecretValue

KEY, OTHER = b"k" * 32, b"o" * 32

# Writes entries of its own, then says so.
WRITER = """
import sys
from pathlib import Path
from irflow.adapters.keyring.encrypted_file import EncryptedFileKeyring
from irflow.core.secret import SecretValue
ring = EncryptedFileKeyring(Path(sys.argv[1]), lambda: SecretValue(b"k" * 32))
number = 0
while number < int(sys.argv[3]):
    ring.set_password("many", f"{sys.argv[2]}-{number}", "x" * 400)
    number += 1
    if number == 1:
        print("begun", flush=True)
"""


def ring(path: Path, key: bytes = KEY) -> EncryptedFileKeyring:
    return EncryptedFileKeyring(path, lambda: SecretValue(key))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "ring"


def writer(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_what_is_stored_comes_back_and_can_be_listed_replaced_and_forgotten(path: Path) -> None:
    one = ring(path)
    assert one.get_password("irflow", "mail") is None
    one.set_password("irflow", "mail", "smtp://u:p@h")
    one.set_password("irflow/deep", "db", "ünïcode ☃")
    again = ring(path)
    assert again.get_password("irflow", "mail") == "smtp://u:p@h"
    assert again.get_password("irflow/deep", "db") == "ünïcode ☃"
    assert again.list_credentials() == (("irflow", "mail"), ("irflow/deep", "db"))
    assert not one.replace("irflow", "mail", "other", "new")
    assert one.replace("irflow", "mail", "smtp://u:p@h", "new")
    assert one.replace("irflow", "fresh", None, "first")
    assert again.get_password("irflow", "mail") == "new"
    one.delete_password("irflow", "mail")
    assert again.get_password("irflow", "mail") is None
    with pytest.raises(PasswordDeleteError):
        one.delete_password("irflow", "mail")


def test_without_the_key_not_even_a_name_can_be_read_nor_by_others_the_file(path: Path) -> None:
    ring(path).set_password("irflow", "mail", "smtp://u:p@h")
    content = path.read_bytes()
    assert not any(word in content for word in (b"irflow", b"mail", b"smtp"))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    with pytest.raises(KeyringLocked, match="master key is another one"):
        ring(path, OTHER).get_password("irflow", "mail")
    with pytest.raises(KeyringLocked):
        ring(path, OTHER).set_password("irflow", "mail", "mine")
    assert path.read_bytes() == content


def test_every_changed_byte_and_every_cut_is_noticed(path: Path) -> None:
    one = ring(path)
    one.set_password("irflow", "mail", "v")
    content = path.read_bytes()
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises((KeyringLocked, InitError)):
            one.get_password("irflow", "mail")
        path.write_bytes(content[:at])
        with pytest.raises((KeyringLocked, InitError)):
            one.get_password("irflow", "mail")


def test_a_short_or_missing_master_key_is_told_before_anything_is_written(path: Path, tmp_path: Path) -> None:
    with pytest.raises(InitError, match="shorter than 16 bytes"):
        ring(path, b"short").set_password("a", "b", "c")
    assert not path.exists()
    with pytest.raises(InitError):
        ring(path, b"short").check()


def test_processes_that_write_at_the_same_time_lose_nothing(path: Path) -> None:
    writers = [writer(path, str(number), 25) for number in range(4)]
    assert [one.wait(60) for one in writers] == [0] * 4
    for one in writers:
        assert one.stdout is not None
        one.stdout.close()
    assert len(ring(path).list_credentials()) == 100


def test_a_writer_that_is_killed_leaves_a_whole_table_and_nobody_waits_for_it(path: Path) -> None:
    one = ring(path)
    one.set_password("irflow", "mail", "kept")
    for number in range(5):
        process = writer(path, str(number), 10**6)
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        time.sleep(0.003 * number)  # another moment each time
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        process.stdout.close()
        assert one.get_password("irflow", "mail") == "kept"
        one.set_password("irflow", f"after-{number}", "x")
    assert len([user for service, user in one.list_credentials() if service == "irflow"]) == 6


def test_after_a_rekey_only_the_new_key_opens_it(path: Path) -> None:
    one = ring(path)
    one.set_password("irflow", "mail", "v")
    one.rekey(lambda: SecretValue(OTHER))
    assert one.get_password("irflow", "mail") == "v"
    assert ring(path, OTHER).get_password("irflow", "mail") == "v"
    with pytest.raises(KeyringLocked):
        ring(path).get_password("irflow", "mail")


# ---------------------------------------------------------------- references


def test_a_reference_names_service_and_user_and_the_service_may_hold_slashes(path: Path) -> None:
    one = ring(path)
    one.set_password("irflow/prod", "mail", "v")
    store = KeyringSecrets(open_backend("encrypted-file", path, lambda: SecretValue(KEY)))
    assert store.resolve(SecretRef.parse("keyring:irflow/prod/mail")).reveal() == b"v"


@pytest.mark.parametrize(
    ("reference", "key", "said"),
    [
        ("keyring:irflow/none", KEY, "has no such entry"),
        ("keyring:irflow/none", KEY, "irflow keyring set irflow/none"),
        ("keyring:irflow", KEY, "SERVICE/USER"),
        ("keyring:irflow/mail", OTHER, "Is its master key the right one"),
    ],
)
def test_what_cannot_be_resolved_is_named_and_no_value_is(path: Path, reference: str, key: bytes, said: str) -> None:
    ring(path).set_password("irflow", "mail", "the-value")
    with pytest.raises((ConfigurationError, ServiceMissing), match=said) as caught:
        KeyringSecrets(ring(path, key)).resolve(SecretRef.parse(reference))
    assert reference in str(caught.value)
    assert "the-value" not in str(caught.value)


def test_a_keyring_of_the_desktop_that_is_not_there_says_what_to_use_instead(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "DBUS_SESSION_BUS_ADDRESS", f"unix:path={path}")
    with pytest.raises(ServiceMissing, match="encrypted-file"):
        backend = open_backend("secretservice", path, lambda: SecretValue(KEY))
        KeyringSecrets(backend).resolve(SecretRef.parse("keyring:irflow/mail"))


def test_an_unknown_keyring_says_which_there_are(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="encrypted-file, kwallet, secretservice"):
        open_backend("plaintext", path, lambda: SecretValue(KEY))
