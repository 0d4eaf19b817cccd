"""SSH to the hosts of the inventory: strict host keys, a wall-clock deadline on every call, connections kept open."""

from irflow.adapters.ssh.hostkeys import fingerprint
from irflow.adapters.ssh.shell import SshShell, scan_host_keys

__all__ = ["SshShell", "fingerprint", "scan_host_keys"]
