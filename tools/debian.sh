#!/usr/bin/env bash
# Install those Debian packages of debian-packages.txt that are missing. Starts no service, enables none at boot,
# creates no database, and leaves the machine's own settings as they were, also when it is interrupted.
set -euo pipefail
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# Debian asks this script before a package starts a service; 101 means no.
readonly POLICY=/usr/sbin/policy-rc.d
readonly POLICY_BEFORE=/usr/sbin/policy-rc.d.before-irflow
readonly MARK='# written by "make setup" of irflow for the time of one installation'
# Read when PostgreSQL is installed for the first time.
readonly CLUSTER_FOLDER=/etc/postgresql-common/createcluster.d
readonly CLUSTER=$CLUSTER_FOLDER/irflow.conf

mapfile -t packages < <(sed 's/[[:space:]]*#.*//; /^$/d' "${BASH_SOURCE[0]%/*}/debian-packages.txt")

say() { printf 'setup: %s\n' "$*"; }

missing_packages() {
    dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' "${packages[@]}" 2>/dev/null |
        sed -n 's/^[ih]i *//p' | sort -u | comm -13 - <(printf '%s\n' "${packages[@]}" | sort -u)
}

left_over() { [ -e "$POLICY_BEFORE" ] || [ -e "$CLUSTER" ] || grep -qsF "$MARK" "$POLICY"; }

restore() {
    if [ -e "$POLICY_BEFORE" ]; then
        mv -f "$POLICY_BEFORE" "$POLICY"
    elif grep -qsF "$MARK" "$POLICY"; then
        rm -f "$POLICY"
    fi
    rm -f "$CLUSTER"
    # Only where they are empty: then no package put them there.
    rmdir -p --ignore-fail-on-non-empty "$CLUSTER_FOLDER" 2>/dev/null || true
}

hold_services() {
    if [ -e "$POLICY" ]; then mv "$POLICY" "$POLICY_BEFORE"; fi
    printf '#!/bin/sh\n%s\nexit 101\n' "$MARK" >"$POLICY"
    chmod 755 "$POLICY"
    mkdir -p "$CLUSTER_FOLDER"
    echo 'create_main_cluster = false' >"$CLUSTER"
}

apt() {
    DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get --yes --no-install-recommends \
        -o Dpkg::Use-Pty=0 -o Dpkg::Lock::Timeout=300 "$@" >>"$log" 2>&1 </dev/null
}

install_packages() {
    if ! apt --simulate install "$@"; then apt update; fi
    # The lists may be older than what the mirror still holds.
    apt install "$@" || { apt update && apt install "$@"; }
}

# The lab brings its own sshd and the tests their own servers: nothing of this belongs in the machine's next boot.
disable_at_boot() {
    command -v systemctl >/dev/null || return 0
    local units
    mapfile -t units < <(dpkg -L "$@" |
        sed -nE 's#^(/usr)?/lib/systemd/system/([^/@]+\.(service|socket|timer))$#\2#p' | sort -u)
    [ ${#units[@]} -eq 0 ] || systemctl --root=/ disable "${units[@]}" >>"$log" 2>&1 ||
        say "could not keep these from the next boot: ${units[*]}"
}

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    say "this is not Debian: its packages are not installed. By your own means, what these hold: ${packages[*]}"
    exit 0
fi
mapfile -t missing < <(missing_packages)
if [ "$(id -u)" -ne 0 ]; then
    if [ ${#missing[@]} -gt 0 ]; then
        say "not root, and these Debian packages are missing: ${missing[*]}"
        say "going on without them; what needs them will fail and name them. As root: apt-get install ${missing[*]}"
    fi
    exit 0
fi
[ ${#missing[@]} -gt 0 ] || left_over || exit 0

# Two clones may be set up at once; a directory can be locked and leaves no file behind.
exec 8</var/lib/dpkg
flock 8
log=$(mktemp)
trap 'restore; rm -f "$log"' EXIT
trap 'exit 130' INT TERM HUP
restore
mapfile -t missing < <(missing_packages)
[ ${#missing[@]} -gt 0 ] || exit 0
say "installing ${#missing[@]} Debian packages: ${missing[*]}"
hold_services
if ! install_packages "${missing[@]}"; then
    tail -n 30 "$log" >&2
    say "apt-get could not install: ${missing[*]}" >&2
    exit 1
fi
disable_at_boot "${missing[@]}"
