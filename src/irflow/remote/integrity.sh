#!/bin/sh
# How this host looks: one canonical, sorted line per thing, the same bytes every time while nothing changes.
#
#   integrity.sh list PATH... meta:PATH...
#
#   sum SHA256 PATH                    content of a file at or below a PATH, or in an account's keys and start-up files
#   meta TYPE MODE UID:GID [SIZE] PATH everything there, and below a meta:PATH, which costs far less; a link with -> TARGET
#   suid MODE UID:GID PATH             setuid and setgid programs where accounts may write
#   listen tcp|udp ADDRESS:PORT        what accepts connections
#   deleted SHA256 PROGRAM             running programs whose file is gone, or that never had one
#   stray SHA256 PROGRAM               running programs in folders that anybody may write to
#   end LINES                          so that a cut-off answer is noticed
#
# Whoever reads this compares whole lines, never parsed ones: a file name with a line break can add lines, not hide any.
# Exit: 0; 64 usage; 77 not root. Source of the choice: what attackers keep (MITRE ATT&CK, tactic persistence).
set -eu
umask 077
export LC_ALL=C TZ=UTC PATH=/usr/sbin:/usr/bin:/sbin:/bin

die() { # status text
	printf 'irflow: %s\n' "$2" >&2
	exit "$1"
}

[ "${1:-}" = list ] || die 64 "usage: integrity.sh list PATH..."
shift
[ $# -gt 0 ] || die 64 "no path given"
[ -r /proc/1/environ ] || die 77 "root is needed (sudo -n)"
for path; do
	case $path in /* | meta:/*) ;; *) die 64 "not an absolute path: '$path'" ;; esac
done

work=''
for folder in /dev/shm /run; do
	[ -d $folder ] && work=$(mktemp -d $folder/.irflow.XXXXXX 2>/dev/null) && break
done
[ -n "$work" ] || die 73 "neither /dev/shm nor /run can be written"
trap 'rm -rf "$work"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

files() { # PATH...: sum and meta lines
	meta_only=''
	for path; do
		shift
		case $path in
		meta:*) [ ! -e "${path#meta:}" ] || meta_only="$meta_only ${path#meta:}" ;;
		*) [ ! -e "$path" ] || set -- "$@" "$path" ;;
		esac
	done
	for home in /root /home/*; do
		for one in .ssh .profile .bashrc .bash_profile .bash_login .bash_logout .config/systemd .config/autostart; do
			[ ! -e "$home/$one" ] || set -- "$@" "$home/$one"
		done
	done
	# shellcheck disable=SC2086 # these paths are ours and have no spaces
	find "$@" $meta_only -xdev \( -type l -printf 'meta %y %m %U:%G %p -> %l\n' \
		-o -type f -printf 'meta %y %m %U:%G %s %p\n' -o -printf 'meta %y %m %U:%G %p\n' \) >"$work/meta" 2>/dev/null &
	find "$@" -xdev -type f -print0 2>/dev/null | xargs -0 sha256sum 2>/dev/null |
		sed 's/^\(\\*\)\([^ ]*\)  /sum \2 \1/'
	wait $! || :
	cat "$work/meta"
}

setuid() {
	find /tmp /var/tmp /dev/shm /home /root /opt /srv -xdev -type f -perm /6000 -printf 'suid %m %U:%G %p\n' 2>/dev/null
}

programs() { # hash each running program once, those alone whose place is odd
	for exe in /proc/[0-9]*/exe; do
		[ -e "$exe" ] || [ -L "$exe" ] || continue
		printf '%s\n' "$exe"
	done | xargs ls -l 2>/dev/null | sed 's/.* \(\/proc\/[0-9]*\/exe\) -> /\1 /' | while read -r exe path; do
		case $path in
		*' (deleted)' | /memfd:*) word=deleted ;;
		/tmp/* | /var/tmp/* | /dev/shm/* | /run/user/*) word=stray ;;
		*) continue ;;
		esac
		sum=$(timeout 5 sha256sum <"$exe" 2>/dev/null) || sum=unreadable
		printf '%s %s %s\n' "$word" "${sum%% *}" "$path"
	done
}

# Each part ends with a status of its own that only says that something vanished meanwhile.
{
	files "$@" || :
	setuid || :
	! command -v ss >/dev/null || ss -Hltun | awk '{ print "listen", $1, $5 }'
	programs || :
} >"$work/lines"
sort -u "$work/lines" >"$work/sorted"
cat "$work/sorted"
printf 'end %s\n' "$(wc -l <"$work/sorted")"
