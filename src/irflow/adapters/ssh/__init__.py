"""SSH to the hosts of the inventory: strict host keys, a wall-clock deadline on every call, connections kept open."""

from irflow.adapters.ssh.hostkeys import fingerprint, scan_host_keys
from irflow.adapters.ssh.shell import SshShell

__all__ = ["SshShell", "fingerprint", "scan_host_keys"]
