"""The image that all lab hosts share: a small system of its own over the machine's `/usr`.

Nothing of the machine shows on a host but `/usr` (without `/usr/local`) and the files of `/etc` named here.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

from irflow.lab.layout import ACCOUNTS, SUDOER, Layout

# What a host takes over from the machine's /etc: rules and tables, never identities, credentials or addresses.
_FROM_ETC = (
    "adduser.conf alternatives bash.bashrc debian_version deluser.conf ethertypes gai.conf host.conf init.d inputrc "
    "iproute2 issue issue.net ld.so.cache ld.so.conf ld.so.conf.d libaudit.conf localtime locale.alias login.defs "
    "logrotate.d magic netconfig networks nftables.conf nsswitch.conf os-release pam.conf pam.d profile protocols rpc "
    "security services shells skel sudo.conf terminfo timezone xattr.conf"
).split()

# Programs that must belong to root and be set-uid: within a user namespace the machine's own belong to nobody.
_DAEMON = 1  # account number of `daemon`, to whom `at` belongs
_SETUID = ("bin/sudo", "bin/su", "bin/passwd", "bin/chage", "bin/crontab", "sbin/unix_chkpwd")

_SSHD = """\
Port 22
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM yes
UseDNS no
PrintMotd no
MaxStartups 200:30:400
MaxSessions 50
TrustedUserCAKeys /etc/ssh/user_ca.pub
Subsystem sftp internal-sftp
"""

_CRONTAB = """\
SHELL=/bin/sh
PATH=/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin
17 *\t* * *\troot\tcd / && run-parts --report /etc/cron.hourly
25 6\t* * *\troot\ttest -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.daily; }
"""

_SUDOERS = """\
Defaults env_reset
Defaults secure_path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
root ALL=(ALL:ALL) ALL
ir ALL=(ALL:ALL) NOPASSWD: ALL
"""

# Account numbers as in Debian's base-passwd.
_SYSTEM_USERS = (
    ("root", 0, 0, "/root", "/bin/bash"),
    ("daemon", 1, 1, "/usr/sbin", "/usr/sbin/nologin"),
    ("bin", 2, 2, "/bin", "/usr/sbin/nologin"),
    ("mail", 8, 8, "/var/mail", "/usr/sbin/nologin"),
    ("www-data", 33, 33, "/var/www", "/usr/sbin/nologin"),
    ("sshd", 101, 65534, "/run/sshd", "/usr/sbin/nologin"),
    ("nobody", 65534, 65534, "/nonexistent", "/usr/sbin/nologin"),
)
_SYSTEM_GROUPS = "root:0 daemon:1 bin:2 sys:3 adm:4 tty:5 disk:6 mail:8 kmem:15 sudo:27 www-data:33 shadow:42 utmp:43 \
users:100 nogroup:65534"

_DIRECTORIES = (
    "boot dev etc home media mnt oldroot opt proc root run srv sys tmp usr "
    "var/backups var/cache var/lib var/log var/mail var/spool/cron/crontabs var/tmp var/www "
    "etc/cron.d etc/cron.daily etc/cron.hourly etc/default etc/nftables.d etc/profile.d etc/ssh "
    "etc/sudoers.d etc/systemd"
).split()


def build(layout: Layout) -> None:
    """Write the shared layers and the lab's keys. Raises OSError, subprocess.CalledProcessError."""
    base = layout.base
    for name in _DIRECTORIES:
        (base / name).mkdir(parents=True, exist_ok=True)
    for name, mode in (("tmp", 0o1777), ("var/tmp", 0o1777), ("root", 0o700), ("var/spool/cron/crontabs", 0o1730)):
        (base / name).chmod(mode)
    os.chown(base / "var/spool/cron/crontabs", 0, _cron_group(layout))
    _at(base)
    (base / "var/run").symlink_to("/run")
    _links_to_usr(base)
    _etc(base / "etc")
    _users(base / "etc", _cron_group(layout))
    for name in ("auth.log", "btmp", "console", "lastlog", "wtmp"):
        (base / "var/log" / name).touch()
    _keys(layout)
    _homes(layout)
    _usr(layout)


def _at(base: Path) -> None:
    """Where `at` keeps its jobs, as Debian's package makes it; everyone may use it."""
    (base / "etc/at.deny").touch()
    for name in ("atjobs", "atspool"):
        folder = base / "var/spool/cron" / name
        folder.mkdir()
        folder.chmod(0o1770)
        os.chown(folder, _DAEMON, _DAEMON)
    counter = base / "var/spool/cron/atjobs/.SEQ"
    counter.touch(0o600)
    os.chown(counter, _DAEMON, _DAEMON)


def _cron_group(layout: Layout) -> int:
    """The group that the machine's `crontab` runs as: its number differs from machine to machine."""
    program = Path("/usr/bin/crontab")
    return program.stat().st_gid if program.exists() and not layout.inside else 101


def _links_to_usr(base: Path) -> None:
    for entry in Path("/").iterdir():
        if entry.is_symlink() and str(entry.readlink()).lstrip("/").startswith("usr/"):
            (base / entry.name).symlink_to(entry.readlink())


def _etc(etc: Path) -> None:
    for name in _FROM_ETC:
        source = Path("/etc", name)
        if source.is_symlink() or source.is_file():
            shutil.copy2(source, etc / name, follow_symlinks=False)
        elif source.is_dir():
            shutil.copytree(source, etc / name, symlinks=True, ignore=_private)
    for name, text in (("crontab", _CRONTAB), ("environment", ""), ("fstab", ""), ("ssh/sshd_config", _SSHD)):
        (etc / name).write_text(text)
    (etc / "sudoers").write_text(_SUDOERS)
    (etc / "sudoers").chmod(0o440)
    (etc / "mtab").symlink_to("/proc/self/mounts")


def _private(folder: str, names: list[str]) -> list[str]:
    """What not everyone may read stays off the hosts."""
    paths = [Path(folder, name) for name in names]
    return [path.name for path in paths if not path.is_symlink() and not path.stat().st_mode & stat.S_IROTH]


def _users(etc: Path, cron_group: int) -> None:
    people = [(name, uid, uid, f"/home/{name}", "/bin/bash") for name, uid, _ in (*ACCOUNTS, SUDOER)]
    passwd = [f"{n}:x:{u}:{g}:{n}:{home}:{shell}\n" for n, u, g, home, shell in (*_SYSTEM_USERS, *people)]
    system = [*(entry.split(":") for entry in _SYSTEM_GROUPS.split()), ["crontab", str(cron_group)]]
    groups = system + [[n, str(u)] for n, u, _, _, _ in people]
    (etc / "passwd").write_text("".join(passwd))
    (etc / "group").write_text("".join(f"{name}:x:{gid}:\n" for name, gid in groups))
    (etc / "gshadow").write_text("".join(f"{name}:*::\n" for name, _ in groups))
    # `*` is no password; 20000 the day of the last change, so that nothing counts as expired.
    (etc / "shadow").write_text("".join(f"{line.split(':')[0]}:*:20000:0:99999:7:::\n" for line in passwd))
    for name in ("shadow", "gshadow"):
        os.chown(etc / name, 0, 42)
        (etc / name).chmod(0o640)


def _keys(layout: Layout) -> None:
    layout.keys.mkdir(mode=0o700)
    for name in ("responder", "attacker", "deploy", "user_ca"):
        make_key(layout.keys / name, f"{name}@lab")
    shutil.copy(layout.keys / "user_ca.pub", layout.base / "etc/ssh/user_ca.pub")


def make_key(path: Path, comment: str) -> None:
    """Make an ed25519 key pair at `path` and `path`.pub. Raises subprocess.CalledProcessError."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path], check=True)


def _homes(layout: Layout) -> None:
    people = [(f"home/{name}", uid, key) for name, uid, key in (*ACCOUNTS, SUDOER)]
    for home, uid, key in [("root", 0, "responder"), *people]:
        folder = layout.base / home / ".ssh"
        folder.mkdir(parents=True)
        shutil.copy(layout.keys / f"{key}.pub", folder / "authorized_keys")
        for path in (folder.parent, folder, folder / "authorized_keys"):
            os.chown(path, uid, uid)
        folder.chmod(0o700)
        folder.parent.chmod(0o750)


def _usr(layout: Layout) -> None:
    local = layout.base_usr / "local"
    for name in ("bin", "sbin", "lib", "share", "etc"):
        (local / name).mkdir(parents=True)
    # An opaque directory hides what the layer below has under the same name.
    os.setxattr(local, "user.overlay.opaque" if layout.inside else "trusted.overlay.opaque", b"y")
    if not layout.inside:
        return
    for name in _SETUID:
        source = Path("/usr", name)
        if source.exists():
            target = layout.base_usr / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
            target.chmod(0o4755)
    if Path("/usr/bin/at").exists():
        shutil.copy("/usr/bin/at", layout.base_usr / "bin/at")
        os.chown(layout.base_usr / "bin/at", _DAEMON, _DAEMON)
        (layout.base_usr / "bin/at").chmod(0o6755)
    for name in ("lib/sudo", "libexec/sudo"):
        if Path("/usr", name).is_dir():
            shutil.copytree(Path("/usr", name), layout.base_usr / name, symlinks=True)
