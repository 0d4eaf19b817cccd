#!/bin/sh
# Send the state of this host, for the record, as a tar.gz on standard output; nothing touches a disk of this host.
#
#   snapshot.sh --seconds N --max-mb N
#
# What is more volatile (sockets, processes) evidence.sh has sent before. In the order of volatility (RFC 3227, section
# 2.1): kernel, sessions, lists of what runs, then files. What is read stands in memory until it is sent: at most
# max-mb, a quarter of the memory that is free and half of the folder. In the archive: INCOMPLETE names every part that
# is missing or was cut, NOT_TAKEN every file that did not fit, WITHHELD every file that came without its secrets
# (hashes of passwords, private keys), MANIFEST the SHA-256 of everything else in it.
# Standard error ends with `sha256=HEX clock=UNIX_TIME missing=TOOLS cut=PART:WHY,...`.
# Exit: 0; 64 usage; 73 no memory-backed folder to work in; 74 could not be packed; 77 not root.
set -eu
umask 077
export LC_ALL=C TZ=UTC PATH=/usr/sbin:/usr/bin:/sbin:/bin

most_of_a_listing=16777216 recent_days=14 most_recent=20000 most_hashed=2000
seconds='' max_mb='' missing='' cut=''

die() { # status text
	printf 'irflow: %s\n' "$2" >&2
	exit "$1"
}

while [ $# -gt 0 ]; do
	[ $# -ge 2 ] || die 64 "$1 wants a value"
	case $2 in '' | *[!0-9]* | 0* | ?????*) die 64 "$1 wants a whole number, not '$2'" ;; esac
	case $1 in
	--seconds) seconds=$2 ;;
	--max-mb) max_mb=$2 ;;
	*) die 64 "unknown argument '$1'" ;;
	esac
	shift 2
done
if [ -z "$seconds" ] || [ -z "$max_mb" ]; then die 64 "--seconds and --max-mb are needed"; fi
[ -r /proc/1/environ ] || die 77 "root is needed (sudo -n)"

work=''
for folder in /dev/shm /run; do
	[ "$(stat -f -c %T "$folder" 2>/dev/null)" = tmpfs ] || continue
	work=$folder/.irflow.$$
	! mkdir "$work" "$work/evidence" 2>/dev/null || break
	work=''
done
[ -n "$work" ] || die 73 "neither /dev/shm nor /run is memory that can be written"
trap 'rm -rf "$work"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
cd "$work/evidence"
: >INCOMPLETE

# ---------------------------------------------------------------- bounds

incomplete() { # part why [text]
	case ",$cut," in *",$1:$2,"*) ;; *) cut="$cut${cut:+,}$1:$2" ;; esac
	printf '%s: %s %s\n' "$1" "$2" "${3:-}" >>INCOMPLETE
}

set_bounds() { # -> end, budget (bytes): a tenth of the time is left for hashing and packing
	read -r up _ </proc/uptime
	end=$((${up%.*} + seconds - (seconds + 9) / 10)) budget=$((max_mb * 1048576))
	free=$(awk '/^MemAvailable:/ { printf "%d", $2 * 1024 / 4 }' /proc/meminfo)
	[ "${free:-0}" -ge "$budget" ] || lower_budget "${free:-0}" memory
	free=$(($(stat -f -c '%a * %S' "$work") / 2))
	[ "$free" -ge "$budget" ] || lower_budget "$free" "folder in memory"
}

lower_budget() { # bytes what
	budget=$1
	incomplete everything memory "at most $1 bytes: the $2 has no room for $max_mb MiB"
}

left() { # -> time: seconds for the next thing, at most a quarter of all; fails when there are none
	read -r up _ </proc/uptime
	time=$((end - ${up%.*}))
	[ $time -gt 0 ] || return 1
	[ $time -le $((seconds / 4 + 1)) ] || time=$((seconds / 4 + 1))
}

spent() { # what is taken already -> room
	room=$((budget - $(du -s -B1 "$work" | cut -f1)))
}

run() { # part command...
	out=$1
	shift
	if ! command -v "$1" >/dev/null; then
		case ",$missing," in *",$1,"*) ;; *) missing="$missing${missing:+,}$1" ;; esac
		printf '%s: no %s on this host\n' "$out" "$1" >>INCOMPLETE
		return 0
	fi
	left || {
		incomplete "$out" time "not begun: $*"
		return 0
	}
	spent
	if [ $room -le 65536 ]; then
		incomplete "$out" size "not begun: $*"
		return 0
	fi
	[ $room -le $most_of_a_listing ] || room=$most_of_a_listing
	printf '# %s\n' "$*" >>"$out"
	status=0
	{ timeout -k 1 "$time" "$@" </dev/null 2>&1 || echo $? >"$work/status"; } | head -c $room >"$work/part"
	cat "$work/part" >>"$out"
	[ "$(stat -c %s "$work/part")" -lt $room ] || incomplete "$out" size "the first $room bytes of: $*"
	if [ -s "$work/status" ]; then
		read -r status <"$work/status"
		printf '# ended with status %s\n' "$status" >>"$out"
	fi
	rm -f "$work/part" "$work/status"
	case $status in 124 | 137) incomplete "$out" time "after $time s: $*" ;; esac
}

# ---------------------------------------------------------------- files

secrets='^/etc/(shadow|gshadow|security/opasswd)[^/]*$'

take() { # part share-of-the-budget-in-percent find-arguments...: newest first, whole files
	part=$1 share=$2
	shift 2
	# Without a place to look in, find would look everywhere.
	case ${1:--} in -*) return 0 ;; esac
	left || {
		incomplete "$part" time "not begun: $*"
		return 0
	}
	spent
	[ "$room" -le $((budget * share / 100)) ] || room=$((budget * share / 100))
	# Names with a line break would be two names.
	timeout -k 1 "$time" find "$@" -type f ! -name '*
*' -printf '%T@ %s %p\n' 2>/dev/null | sort -rn | sed -E 's/^([0-9]+)[.0-9]* /\1 /' >"$work/found"
	awk -v room="$room" -v secrets="$secrets" -v chosen="$work/chosen" -v not="NOT_TAKEN" -v part="$part" '
		BEGIN { printf "" >chosen }
		{
			size = $2; name = $0; sub(/^[0-9]+ [0-9]+ /, "", name)
			if (name ~ secrets) { print "passwords, not taken|" name >>"WITHHELD"; next }
			need = int(size / 4096 + 1) * 4096
			if (need > room) { print part "|" size "|" name >>not; next }
			room -= need; print name >chosen
		}' "$work/found"
	! grep -q "^$part|" NOT_TAKEN 2>/dev/null || incomplete "$part" size "see NOT_TAKEN"
	left || time=1
	mkdir -p files
	if ! timeout -k 1 "$time" tar -C / -cf - --atime-preserve=system --no-recursion --sparse -P --verbatim-files-from \
		-T "$work/chosen" 2>"$work/errors" | tar -C files -xf - --no-same-owner --no-same-permissions 2>/dev/null; then
		incomplete "$part" time "files were read for $time s"
	fi
	sed "s/^/$part: /" "$work/errors" >>INCOMPLETE
	rm -f "$work/found" "$work/chosen" "$work/errors"
}

tail_of_logs() { # the end of each log that was too big, as far as there is room
	[ -f NOT_TAKEN ] || return 0
	grep '^06_logs|' NOT_TAKEN | head -n 20 >"$work/big" || :
	while IFS='|' read -r _ _ name; do
		spent
		if [ $room -lt 65536 ] || ! left; then break; fi
		[ $room -le 4194304 ] || room=4194304
		case $name in *.gz | *.xz | *.journal) continue ;; esac
		mkdir -p "files_end${name%/*}"
		timeout -k 1 "$time" tail -c "$room" "$name" </dev/null >"files_end$name" 2>/dev/null || :
	done <"$work/big"
}

withhold() { # secrets in what was taken: what holds a hash stays without it, a private key does not; both are named
	# crypt(5): $id$salt$hash; shorter ones are arguments of shell scripts ("$1$2").
	# shellcheck disable=SC2016 # these are no variables
	hash='[$](1|2[abxy]?|5|6|7|y|gy|sha1|md5|apr1)[$][]A-Za-z0-9./$=,+[-]{20,}'
	# What is left of DES: 13 characters in the second field.
	old='^([^:]+):[A-Za-z0-9./]{13}:'
	grep -rlE -e "$hash" . >"$work/hashes" 2>/dev/null || :
	for name in 04_accounts files/etc/passwd files/etc/passwd-; do
		! grep -qsE -e "$old" $name || printf './%s\n' $name >>"$work/hashes"
	done
	sort -u "$work/hashes" >"$work/with"
	while read -r name; do
		printf 'hashes of passwords, taken out|%s|%s\n' "$name" "$(sha256sum <"$name" | cut -c1-64)" >>WITHHELD
		sed -E -e "s!$hash!\$\\1\$WITHHELD!g" -e "s!$old!\\1:WITHHELD:!" "$name" >"$work/without"
		cat "$work/without" >"$name"
	done <"$work/with"
	grep -rlE -e 'PRIVATE KEY( BLOCK)?-----' . >"$work/with" 2>/dev/null || :
	while read -r name; do
		printf 'private key, not taken|%s|%s\n' "$name" "$(sha256sum <"$name" | cut -c1-64)" >>WITHHELD
		rm -f "$name"
	done <"$work/with"
}

local_systems() { # where this host's own file systems are mounted, one a line
	awk '$3 ~ /^(ext[234]|xfs|btrfs|overlay|tmpfs|f2fs|zfs|vfat)$/ && $2 !~ /^\/(proc|sys|dev)(\/|$)/ { print $2 }' \
		/proc/self/mounts | sort -u
	echo /
	echo /dev/shm
}

recent() {
	# shellcheck disable=SC2046 # one word per file system
	run 05_recent find $(local_systems | sort -u) -xdev -path "$work" -prune -o -type f -ctime -$recent_days \
		-printf '%C@|%m|%u:%g|%s|%i|%T+|%C+|%p\n'
	[ -f 05_recent ] || return 0
	grep -E '^[0-9.]+[|]' 05_recent | sort -rn | cut -d'|' -f2- >"$work/recent" || :
	[ "$(wc -l <"$work/recent")" -le $most_recent ] || incomplete 05_recent size "the newest $most_recent"
	head -n $most_recent "$work/recent" >05_recent
	# Bigger ones would use up the time of all others.
	awk -F'|' -v most=$most_hashed '$3 < 33554432 { sub(/^([^|]*[|])([^|]*[|])([^|]*[|])([^|]*[|])([^|]*[|])([^|]*[|])/, "")
		if (n++ < most) print }' 05_recent | tr '\n' '\0' >"$work/names"
	run 05_recent_sha256 xargs -0 -r -a "$work/names" sha256sum --
	[ "$(wc -l <05_recent)" -le $most_hashed ] || incomplete 05_recent_sha256 size "hashes of the newest $most_hashed"
	rm -f "$work/names" "$work/recent"
}

# ---------------------------------------------------------------- what is taken, most volatile first

kernel() {
	run 01_modules cat /proc/modules
	run 01_parameters sysctl -a
	run 01_command_line cat /proc/cmdline /proc/sys/kernel/tainted
	run 01_module_parameters grep -rs '' /sys/module --exclude-dir=sections --exclude-dir=notes
	run 01_mounts cat /proc/self/mountinfo
	run 01_firewall nft list ruleset
	run 01_firewall_xtables iptables-save
	run 01_firewall_xtables ip6tables-save
}

sessions() {
	run 02_who who -a
	run 02_last last -Fwx -n 5000
	run 02_lastb lastb -Fw -n 5000
	run 02_lastlog lastlog
	take 02_records 25 /run/utmp /var/log/wtmp /var/log/wtmp.1 /var/log/btmp /var/log/btmp.1 /var/log/lastlog -maxdepth 0
	if [ -d /run/systemd/system ]; then
		run 03_units systemctl list-units --all --no-pager --full
		run 03_unit_files systemctl list-unit-files --no-pager
		run 03_timers systemctl list-timers --all --no-pager
	else
		printf '03_units: systemd does not run here\n' >>INCOMPLETE
	fi
	run 03_at atq
}

accounts() {
	run 04_accounts getent passwd
	run 04_groups getent group
	# Field 2 is a secret; whether there is one is not.
	# shellcheck disable=SC2016 # for awk
	run 04_passwords awk -F: '{ print $1, ($2 == "" ? "EMPTY" : $2 ~ /^[!*]/ ? "locked" : "password"), $3, $8 }' /etc/shadow
	run 04_shadow_stat stat -c '%n|%a|%U:%G|%s|%i|mtime %y|ctime %z' /etc/shadow /etc/gshadow /etc/shadow- /etc/gshadow-
	run 04_sshd sshd -T
	# shellcheck disable=SC2046 # one word per home
	{
		run 04_ssh_stat find $(homes .ssh) -maxdepth 1 -printf '%m|%u:%g|%s|%i|%T+|%C+|%p|%l\n'
		take 04_keys 10 $(homes .ssh) -maxdepth 1 -name 'authorized_keys*'
		take 04_units 10 $(homes .config/systemd)
	}
}

homes() { # folder -> it in the homes of all accounts, once each; of others than plain names the account is named
	awk -F: -v folder="$1" '
		$6 !~ /^\/[A-Za-z0-9_.\/-]*$/ || $6 ~ /\.\./ { print "04_keys: not looked into the home of " $1 >>"INCOMPLETE"; next }
		!seen[$6]++ { print $6 "/" folder }' /etc/passwd |
		while read -r place; do [ ! -e "$place" ] || printf '%s\n' "$place"; done
}

program_folders() { # of PATH, without links to one another
	for one in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin /bin; do readlink -e $one || :; done | sort -u
}

files() {
	run 05_etc find /etc -printf '%m|%u:%g|%s|%i|%T+|%C+|%p|%l\n'
	take 05_etc 50 /etc
	take 05_schedules 10 /var/spool/cron /var/spool/at /var/spool/anacron
	take 05_units 25 /run/systemd/system /run/systemd/transient /usr/lib/systemd/system /usr/local/lib/systemd
	# What is quick before what walks through whole file systems.
	run 06_packages dpkg -l
	command -v dpkg >/dev/null || run 06_packages rpm -qa
	recent
	# shellcheck disable=SC2046 # one word per file system
	run 06_suid find $(local_systems | sort -u) -xdev -path "$work" -prune -o -type f -perm /6000 \
		-printf '%m|%u:%g|%s|%i|%T+|%C+|%p\n'
	run 06_capabilities getcap -r /usr /bin /sbin /opt
	# shellcheck disable=SC2046 # one word per folder
	run 06_programs_sha256 find $(program_folders) -maxdepth 1 -type f \
		-perm /111 -exec sha256sum '{}' +
	run 06_packages_verify dpkg --verify
	command -v dpkg >/dev/null || run 06_packages_verify rpm -Va
	take 06_logs 100 /var/log
	tail_of_logs
}

set_bounds
kernel
sessions
accounts
files
withhold
find . -type f ! -name MANIFEST -exec sha256sum {} + >"$work/manifest"
sort -k2 "$work/manifest" >MANIFEST
clock=$(date +%s.%N)
mkfifo "$work/copy"
sha256sum <"$work/copy" >"$work/sum" &
{ tar -C "$work" -cf - evidence || : >"$work/broken"; } | { gzip -1 || : >"$work/broken"; } | tee "$work/copy"
wait $!
# Half an archive would hash alike on both ends.
[ ! -e "$work/broken" ] || die 74 "the archive could not be packed"
read -r sum _ <"$work/sum"
printf 'sha256=%s clock=%s missing=%s cut=%s\n' "$sum" "$clock" "$missing" "$cut" >&2
