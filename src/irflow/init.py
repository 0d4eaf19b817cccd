"""What `irflow init` writes: a commented configuration, an inventory, operators, and copies of the shipped YAML."""

from __future__ import annotations

import base64
import getpass
import os
import secrets
import shutil
from pathlib import Path

from irflow.core.errors import UsageError
from irflow.shipped import shipped

SETTINGS = """\
# irflow settings. Every line is optional; the values shown are the defaults. `irflow check` validates this file.

# web_host: 127.0.0.1        # 0.0.0.0 takes alerts from elsewhere; then set both lines below
# web_port: 8765
# web_tls_certificate: /etc/irflow/web.crt
# web_tls_key: /etc/irflow/web.key
# database_url: postgresql+psycopg://irflow@/irflow   # several machines; default: SQLite under this folder
# prefect_url: https://prefect.example/api            # an existing Prefect; default: our own, on prefect_port
# prefect_port: 4200
# prefect_public_url: https://prefect.example.com     # where browsers find its pages, as behind a TLS proxy
# drill_schedule: 0 3 1 * *                           # cron: when the monthly drill runs

# Where notifications go. An apprise URL holds a password, so it lives in a 0600 file: keys/team.mail could hold
# mailtos://user:password@mail.example?to=incident@example. `log` writes to the responder's log.
notify:
  channels:
    email: [log]
    sms: [log]

# Emergency backups go into a restic repository, encrypted. KEEP A COPY of keys/backup.password somewhere else: without
# it nothing in the repository can be read.
# backup:
#   repository: backups           # a folder here, sftp:user@host:/folder, s3:...; file:keys/backup.location where the
#                                 # location itself holds a password
#   password: file:keys/backup.password
#   keep_free_mb: 1024            # so much of the disk a repository on this machine never fills
#   parallel: 4                   # backups at once; each needs about 150 MB of memory and a core

# Where secrets are that references name: secrets/README.md. What opens them are 0600 files, or systemd credentials.
# vault:
#   url: https://vault.example:8200
#   ca: keys/vault-ca.pem         # only where the system does not know the authority
#   role: file:keys/vault.role    # of an AppRole with the policy secrets/policies/responder.hcl
#   secret: file:keys/vault.secret
# keyring:
#   backend: encrypted-file       # irflow's own; or secretservice, kwallet
#   file: keys/keyring
#   key: file:keys/keyring.key

# Where SSH is dead: who cuts a host off instead. A program (request as JSON on its standard input) or a signed request;
# each answers {"state": "isolated" or "open"} to isolate, release and status. docs/operations.md, "When SSH is dead".
# hooks:
#   core-switch:
#     groups: [web]
#     command: [/usr/local/sbin/cut-port, --site, dc1]
#   cloud:
#     hosts: [api-1]
#     url: https://cloud.example/irflow
#     key: file:keys/cloud.hook

# Where the roles of an incident's accounts are closed: docs/operations.md, "Closing accounts in databases".
# databases:
#   shop:
#     host: db-1.example
#     database: shop
#     user: irflow_keeper         # a superuser of its own, or a member of every role that grants something
#     password: vault:irflow/db-1/keeper#password
#     tls: verify-full
#     ca: keys/db-ca.pem

# responder:
#   first_response: true          # contain in this warm process, before and without Prefect
#   parallel: 32                  # hosts worked on at once
#   lease: 8h                     # how long an isolation holds if irflow is gone
"""

SOURCES = """\
# Who may send alerts: POST /webhooks/NAME. What each kind sends and how it signs: docs/alerts.md.
# `auth: none` opens incidents that wait for a person and never act unattended.

sources:
  detection:                      # signed (Standard Webhooks 1.0)
    kind: standard
    auth: hmac
    key: file:keys/detection.webhook
  alertmanager:                   # `authorization: {credentials_file: ...}` in Alertmanager's webhook_configs
    kind: alertmanager
    auth: bearer
    key: file:keys/alertmanager.token
"""

INVENTORY = """\
# The hosts irflow may touch. Nothing else is ever contacted. `irflow hosts list` shows what was read.

defaults:
  user: root                      # or an account with `sudo -n`, and `sudo: true`
  key: file:keys/responder        # made by irflow init; put keys/responder.pub into authorized_keys of the hosts
  management: []                  # REQUIRED before isolating: addresses or networks that keep SSH access, 10.0.0.0/28

# How much one incident may touch before a person must agree.
caps: {hosts: 10, group_percent: 100}

# Hosts that already stand elsewhere; an entry under `hosts` adds to them, or says otherwise.
# import:
#   ansible: {path: /etc/ansible/hosts}                    # needs: pip install 'irflow[ansible]'
#   ssh_config: {path: ~/.ssh/config, hosts: [web-*, bastion], known_hosts: ~/.ssh/known_hosts}

hosts: {}
#  web-1:
#    address: 10.0.1.11
#    groups: [web]
#    owner: shop team
#    aliases: [shop-frontend]     # other names that alerts use
#    protected: false             # true: a person must always agree
#    criticality: high            # a playbook's waiver holds only for incidents at least as severe
#    jump: bastion                # inventory name of the jump host
#    host_keys: []                # recorded by: irflow hosts enrol web-1
#  bastion:
#    address: 10.0.0.5
#    own: true                    # irflow needs it: two people must agree (of a jump host it is known)
"""

OPERATORS = """\
# Who may decide. `irflow operators add NAME --role ...` writes here, and shows a QR code for one-time codes.
# login: the account on this machine that proves the name. Where one account has several operators, each needs `totp`.
# roles: incident_commander, technical_lead, communications, legal; what each step asks.
# access: monitor looks; agent also answers what its roles are asked, notes, halts; developer (unless something else
#   stands here) also starts, approves, retries, undoes, closes; admin also says who the operators are.
# totp: where the key of the one-time codes is: keyring:SERVICE/USER, vault:MOUNT/path#field or file:PATH.

operators:
  {login}:
    login: {login}
    roles: [incident_commander, technical_lead, communications, legal]
    access: admin
"""


def write_installation(home: Path, *, force: bool) -> list[Path]:
    """Write what is missing under home (0700); existing files are never changed. Returns what was written.

    force: needed when home already holds a configuration. Raises UsageError without it.
    """
    if (home / "irflow.yaml").exists() and not force:
        raise UsageError(
            "there is a configuration already", where=str(home), hint="irflow init --force adds what is missing"
        )
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    keys = home / "keys"
    keys.mkdir(exist_ok=True, mode=0o700)
    written = [
        path
        for path, text in (
            (home / "irflow.yaml", SETTINGS),
            (home / "sources.yaml", SOURCES),
            (home / "inventory.yaml", INVENTORY),
            (home / "operators.yaml", OPERATORS.format(login=getpass.getuser())),
            (keys / "detection.webhook", "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode() + "\n"),
            (keys / "alertmanager.token", secrets.token_urlsafe(32) + "\n"),
            (keys / "backup.password", secrets.token_urlsafe(32) + "\n"),
        )
        if _write(path, text)
    ]
    written += _responder_key(keys)
    for kind in ("playbooks", "runbooks"):
        (home / kind).mkdir(exist_ok=True)
        for source in sorted(shipped(kind).glob("*.yaml")):
            target = home / kind / source.name
            if not target.exists():
                shutil.copyfile(source, target)
                written.append(target)
    return written


def _write(path: Path, text: str) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    return True


def _responder_key(keys: Path) -> list[Path]:
    """The responder's own SSH key, ed25519, without passphrase in a 0600 file."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    ).decode()
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    if not _write(keys / "responder", private):
        return []
    (keys / "responder.pub").write_text(public + " irflow\n")
    return [keys / "responder", keys / "responder.pub"]
