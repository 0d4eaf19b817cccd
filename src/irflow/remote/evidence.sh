#!/bin/sh
# Collect evidence and send it on standard output; nothing touches a disk of this host.
#
#   evidence.sh snapshot [--seconds 0.25]     sockets and processes, for the moment before a cut: one text
#   evidence.sh volatile [--seconds 20]       everything, in the order of volatility (RFC 3227, section 2.1): a tar.gz
#
# Standard error ends with `sha256=HEX clock=UNIX_TIME missing=TOOLS`: the hash of what was sent, to be compared
# with what arrived. Past its seconds a command is cut off and what it had said so far is kept.
# Exit: 0; 64 usage; 73 no memory-backed folder to work in; 77 not root.
set -eu
umask 077
export LC_ALL=C TZ=UTC PATH=/usr/sbin:/usr/bin:/sbin:/bin

most_of_a_log=2000000 most_of_a_program=8000000 most_programs=6
profile=${1:-} seconds='' missing=''
newline='
'

die() { # status text
	printf 'irflow: %s\n' "$2" >&2
	exit "$1"
}

case $profile in
snapshot) seconds=0.25 ;;
volatile) seconds=20 ;;
*) die 64 "the profile is snapshot or volatile, not '$profile'" ;;
esac
shift
while [ $# -gt 0 ]; do
	if [ "$1" != --seconds ] || [ $# -lt 2 ]; then die 64 "unknown argument '$1'"; fi
	seconds=$2
	shift 2
done
case $seconds in '' | *[!0-9.]* | *.*.*) die 64 "--seconds wants a number" ;; esac
[ -r /proc/1/environ ] || die 77 "root is needed (sudo -n)"

sent() { # SHA-256 of what was sent, and of which moment it is
	printf 'sha256=%s clock=%s missing=%s\n' "${1%% *}" "$clock" "$missing" >&2
}

# ---------------------------------------------------------------- before the cut: held in memory, bounded as a whole

# Every process that is started here puts the cut off, by more than what it reads does: hence few, and no folder.
snapshot() {
	clock=$(date +%s.%N)
	# shellcheck disable=SC2016 # the inner shell expands
	taken=$(timeout "$seconds" sh -c '
		cd /proc/net
		tail -v -n +1 tcp tcp6 udp udp6 raw raw6 arp route ipv6_route
		echo "==> processes <=="
		ps -eww -o pid,ppid,sid,user,lstart,etimes,tty,stat,args
		echo "==> programs, folders and sockets of processes <=="
		ls -ln /proc/[0-9]*/exe /proc/[0-9]*/cwd /proc/[0-9]*/fd | grep -e /proc/ -e socket:
		echo "==> end <=="
	' </dev/null 2>/dev/null) || :
	case $taken in *'==> end <==') ;; *) taken="$taken${newline}==> cut off after $seconds s <==" ;; esac
	printf '%s\n' "$taken"
	sent "$(printf '%s\n' "$taken" | sha256sum)"
}

if [ "$profile" = snapshot ]; then
	snapshot
	exit 0
fi

# ---------------------------------------------------------------- a place in memory

work=''
for folder in /dev/shm /run; do
	work=$folder/.irflow.$$
	! mkdir "$work" "$work/evidence" 2>/dev/null || break
	work=''
done
[ -n "$work" ] || die 73 "neither /dev/shm nor /run can be written"
trap 'rm -rf "$work"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
cd "$work/evidence"

# ---------------------------------------------------------------- after the cut: everything, most volatile first

in_time() { # whether there is time left for one more thing
	read -r up _ </proc/uptime
	[ "${up%.*}" -lt "$end" ]
}

run() { # file command...: at most a quarter of the time for each, nothing once the time is over
	out=$1
	shift
	if ! command -v "$1" >/dev/null; then
		missing="$missing${missing:+,}$1"
		return 0
	fi
	if ! in_time; then
		printf '%s\n' "$*" >>NOT_RUN
		return 0
	fi
	{
		printf '# %s\n' "$*"
		timeout $((${seconds%.*} / 4 + 1)) "$@" </dev/null 2>&1 || printf '# ended with status %s\n' $?
	} >>"$out"
}

keep() { # files...: the end of each, and what the file system says about it
	for one; do
		if [ -f "$one" ] && in_time; then
			mkdir -p "files${one%/*}"
			# Behind a link of an account may be anything that only root may read.
			[ -L "$one" ] || tail -c $most_of_a_log "$one" >"files$one" 2>/dev/null || :
			stat -c '%n|%F|%a|%U:%G|%s|%i|mtime %y|ctime %z|atime %x' "$one" >>files_stat || :
		fi
	done
}

programs() { # hash every running program once; keep those that no package could have put there
	stat -L -c '%d:%i %n' /proc/[0-9]*/exe 2>/dev/null | awk '!seen[$1]++ { print $2 }' >"$work/programs" || :
	while read -r exe; do
		printf '%s  %s %s\n' "$(timeout 5 sha256sum <"$exe" 2>/dev/null | cut -c1-64)" "$exe" "$(readlink "$exe")"
	done <"$work/programs" >02_programs_sha256 2>/dev/null || :
	mkdir programs
	kept=0
	while read -r _ exe path; do
		case $path in
		*' (deleted)' | /tmp/* | /dev/shm/* | /var/tmp/* | /memfd:*)
			pid=${exe#/proc/} pid=${pid%/exe} kept=$((kept + 1))
			[ $kept -le $most_programs ] || break
			head -c $most_of_a_program "$exe" >"programs/pid$pid" 2>/dev/null || :
			;;
		esac
	done <02_programs_sha256
	rmdir programs 2>/dev/null || :
}

volatile() {
	read -r up _ </proc/uptime
	end=$((${up%.*} + ${seconds%.*}))
	run 00_clock date +%s.%N
	run 00_host cat /etc/os-release /etc/machine-id /proc/uptime /proc/cmdline /proc/loadavg /proc/sys/kernel/osrelease
	run 01_sockets ss -Hanpeoi
	for table in tcp tcp6 udp udp6 raw raw6 packet unix arp route ipv6_route; do run 01_proc_net cat /proc/net/$table; done
	run 01_neighbours ip -s neigh
	run 01_routes ip route show table all
	run 01_addresses ip -s -d addr
	run 01_conntrack conntrack -L
	run 01_rules nft list ruleset
	command -v nft >/dev/null || run 01_rules iptables-save
	run 02_processes ps -eww -o pid,ppid,sid,pgid,user,lstart,etimes,tty,stat,pcpu,rss,wchan:20,args
	run 02_programs ls -l /proc/[0-9]*/exe /proc/[0-9]*/cwd /proc/[0-9]*/root
	run 02_descriptors ls -l /proc/[0-9]*/fd
	run 02_status grep -E '^(Name|PPid|Uid|Gid|CapEff|Seccomp|TracerPid|NSpid):' /proc/[0-9]*/status
	run 02_environment sh -c 'grep -az "" /proc/[0-9]*/environ | tr "\0" "\n"'
	run 02_maps grep -E '^[^ ]+ ..x' /proc/[0-9]*/maps
	programs
	run 03_who who -a
	run 03_last last -Fwx -n 500
	run 03_lastb lastb -Fw -n 500
	run 03_sessions loginctl list-sessions
	run 04_modules cat /proc/modules
	run 04_mounts cat /proc/self/mountinfo
	run 04_kernel_log dmesg
	run 05_temporary find /tmp /var/tmp /dev/shm /run/user -xdev -path "$work" -prune -o \
		-printf '%m|%u:%g|%s|%i|%T+|%C+|%p|%l\n'
	run 05_recent find /etc /usr/bin /usr/sbin /usr/local /usr/lib/systemd /root /home -xdev -type f -ctime -3 \
		-printf '%m|%u:%g|%s|%i|%T+|%C+|%p\n'
	if [ -d /run/systemd/system ]; then # else it would read every unit file of the disk, for nothing that runs
		run 05_units systemctl list-unit-files --state=enabled
		run 05_timers systemctl list-timers --all
	fi
	# shellcheck disable=SC2016 # for awk
	run 05_accounts awk -F: '{ print $1, substr($2, 1, 3), $3, $8 }' /etc/shadow
	keep /etc/passwd /etc/group /etc/sudoers /etc/sudoers.d/* /etc/crontab /etc/cron.d/* /var/spool/cron/crontabs/* \
		/var/spool/cron/* /etc/ld.so.preload /etc/rc.local /etc/hosts /etc/resolv.conf /etc/ssh/sshd_config \
		/etc/ssh/sshd_config.d/* /etc/profile /root/.bash_history /home/*/.bash_history /root/.ssh/authorized_keys* \
		/home/*/.ssh/authorized_keys* /etc/systemd/system/*.service
	keep /var/log/auth.log /var/log/syslog /var/log/messages /var/log/secure /var/log/audit/audit.log /var/log/wtmp \
		/var/log/btmp /var/log/lastlog
	run 06_journal journalctl --no-pager -o short-iso-precise -n 3000
	find . -type f ! -name MANIFEST -exec sha256sum {} + >"$work/manifest"
	sort -k2 "$work/manifest" >MANIFEST
}

volatile
clock=$(date +%s.%N)
tar -C "$work" -cf - evidence | gzip -1 >"$work/sent"
sum=$(sha256sum <"$work/sent")
cat "$work/sent"
sent "$sum"
