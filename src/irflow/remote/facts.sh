#!/bin/sh
# First look at a host: what it is, who is on it, what it talks to, what looks wrong. Reads only.
#
#   facts.sh
#
# Output: key=value lines; a key may come several times. Values are what the host says, and an intruder may have chosen
# them. Exit: 0; 77 not root.
set -eu
umask 077
export LC_ALL=C TZ=UTC PATH=/usr/sbin:/usr/bin:/sbin:/bin

most=50 # lines of one kind

[ -r /proc/1/environ ] || {
	echo "irflow: root is needed (sudo -n)" >&2
	exit 77
}

prefixed() { # key: standard input as lines key=..., at most $most of them
	head -n $most | sed "s/^/$1=/"
}

PRETTY_NAME=''
while IFS='=' read -r key value; do
	[ "$key" != PRETTY_NAME ] || PRETTY_NAME=$value
done </etc/os-release 2>/dev/null || :
read -r up _ </proc/uptime
read -r kernel </proc/sys/kernel/osrelease
PRETTY_NAME=${PRETTY_NAME#\"}
printf 'os=%s\nkernel=%s\nuptime_s=%s\nclock=%s\nhostname=%s\n' \
	"${PRETTY_NAME%\"}" "$kernel" "${up%.*}" "$(date +%s.%N)" "$(uname -n)"

# People: sessions that sshd serves, and what the login records say.
ps -eww -o args | sed -n 's/^sshd: \([^ []*@[^ ]*\).*/\1/p' | sort | uniq -c | awk '{ print $2 }' | prefixed session
who 2>/dev/null | awk '{ print $1 }' | sort -u | prefixed logged_in

# The network: who waits for connections, and whom the host has called (not the other way round).
if command -v ss >/dev/null; then
	ss -Hltunp | awk '{ program = $7; sub(/.*\(\("/, "", program); sub(/".*/, "", program); print $1, $5, program }' |
		sort -u | prefixed listener
	ports=$(ss -Hltn | awk '{ sub(/.*:/, "", $4); print $4 }' | sort -u | tr '\n' ' ')
	ss -Htn state established state syn-sent | awk -v listening=" $ports" '{
		port = $(NF - 1); sub(/.*:/, "", port)
		if (index(listening, " " port " ") == 0 && $NF !~ /^(127\.|\[::1\])/) print $NF
	}' | sort | uniq -c | sort -rn | awk '{ print $2, $1 }' | prefixed outbound
fi

# What looks wrong, each with the reason first.
# shellcheck disable=SC2012 # one call for all processes; readlink would be one for each
ls -l /proc/[0-9]*/exe 2>/dev/null | sed -n 's/.* \/proc\/\([0-9]*\)\/exe -> /\1 /p' | while read -r pid path; do
	case $path in
	*' (deleted)' | /memfd:*) printf 'runs a deleted program: pid %s %s\n' "$pid" "$path" ;;
	/tmp/* | /var/tmp/* | /dev/shm/*) printf 'runs a program anybody could have put there: pid %s %s\n' "$pid" "$path" ;;
	esac
done | prefixed suspicious
awk -F: '$3 == 0 && $1 != "root" { print "another account with uid 0: " $1 }' /etc/passwd | prefixed suspicious
[ ! -s /etc/ld.so.preload ] || echo "suspicious=/etc/ld.so.preload is not empty"
find /etc/cron* /var/spool/cron /etc/systemd/system /root/.ssh /home/*/.ssh -type f -mtime -1 2>/dev/null |
	sed 's/^/changed within a day: /' | prefixed suspicious
