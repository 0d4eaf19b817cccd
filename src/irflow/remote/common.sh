#!/bin/sh
# What the scripts that change a host have in common; put in, before they are sent, where one says `. ./common.sh`.
#
# Before it, the script sets `scope`: what of the host it changes. One call at a time changes a scope (take_lock), and
# an engine that was overtaken changes nothing any more (fence).
set -eu
umask 077
export LC_ALL=C TZ=UTC PATH=/usr/sbin:/usr/bin:/sbin:/bin

state_dir=/var/lib/irflow

die() { # status text
	printf 'irflow: %s\n' "$2" >&2
	exit "$1"
}

number() { # name value: digits only, at most 15 of them, none of them a leading zero
	case $2 in '' | *[!0-9]* | 0?* | ????????????????*) die 64 "--$1 wants a whole number, not '$2'" ;; esac
}

check_account() { # NAME
	case $1 in '' | [!A-Za-z0-9_]* | *[!A-Za-z0-9_@.+-]* | *..*) die 64 "not the name of an account: '$1'" ;; esac
}

need_root() {
	[ "$(id -u)" = 0 ] || die 77 "root is needed (sudo -n)"
}

decode() { # BASE64URL -> decoded; a name may end with line breaks, which a substitution would drop
	decoded=$(printf %s "$1" | tr -- '-_' '+/' | base64 -d 2>/dev/null && echo .) || die 64 "not base64url: '$1'"
	decoded=${decoded%?}
	decoded=${decoded%.}
}

make_work() { # -> work: a folder in memory; who asks for it takes it away again
	work=''
	for memory in /dev/shm /run; do
		[ -d $memory ] && work=$(mktemp -d $memory/.irflow.XXXXXX 2>/dev/null) && break
	done
	[ -n "$work" ] || die 73 "neither /dev/shm nor /run can be written"
}

# ---------------------------------------------------------------- addresses

check_network() { # ADDRESS[/BITS]
	address=${1%/*} bits=${1##*/}
	[ "$bits" != "$1" ] || bits=32
	case $bits in '' | *[!0-9]* | ????*) die 64 "not a network: '$1'" ;; esac
	[ "$bits" -gt 0 ] || die 64 "the network '$1' is everything: nothing would be cut off"
	case $address in
	*[!0-9a-fA-F:.]* | '') die 64 "not a network: '$1'" ;;
	*:*) [ "$bits" -le 128 ] || die 64 "not a network: '$1'" ;;
	*) check_v4 "$address" "$bits" ;;
	esac
}

check_v4() { # ADDRESS BITS
	old_ifs=$IFS
	IFS=.
	# shellcheck disable=SC2086 # splitting at the dots is the point
	set -- "$1" "$2" $1
	IFS=$old_ifs
	if [ $# -ne 6 ] || [ "$2" -gt 32 ]; then die 64 "not a network: '$1/$2'"; fi
	for part in "$3" "$4" "$5" "$6"; do
		case $part in '' | *[!0-9]* | ????*) die 64 "not an address: '$1'" ;; esac
		[ "$part" -le 255 ] || die 64 "not an address: '$1'"
	done
}

check_connection() { # this session's own way in -> peer port
	case ${IRFLOW_CONNECTION-} in
	*\ *\ *\ *) ;;
	*) die 64 "IRFLOW_CONNECTION does not name this session: its own way in could not be kept open" ;;
	esac
	peer=${IRFLOW_CONNECTION%% *} port=${IRFLOW_CONNECTION##* }
	peer=${peer%%\%*}
	case $peer in ::ffff:*.*) peer=${peer#::ffff:} ;; esac
	number connection "$port"
	check_network "$peer"
}

# ---------------------------------------------------------------- one writer at a time, and never a late one

choose_state() { # a full or broken disk must not save a host from being cut off: then memory has to do until a boot
	if [ ! -d /run/irflow ] && mkdir -p $state_dir 2>/dev/null && { echo >"$state_dir/$scope.lock"; } 2>/dev/null; then
		return
	fi
	mkdir -p /run/irflow || die 73 "neither $state_dir nor /run/irflow can be written"
	[ -e "/run/irflow/$scope.epoch" ] || cp "$state_dir/$scope.epoch" "/run/irflow/$scope.epoch" 2>/dev/null || :
	state_dir=/run/irflow
}

take_lock() {
	locked=$state_dir/$scope.locked
	if command -v flock >/dev/null; then
		exec 9>>"$state_dir/$scope.lock"
		flock -w 10 9 || die 75 "another irflow call is at work here and does not end"
		return
	fi
	tries=0
	while ! mkdir "$locked" 2>/dev/null; do
		holder=''
		[ ! -r "$locked/pid" ] || read -r holder <"$locked/pid" || :
		tries=$((tries + 1))
		if { [ -n "$holder" ] && [ ! -d "/proc/$holder" ]; } || { [ -z "$holder" ] && [ $tries -gt 2 ]; }; then
			rm -rf "$locked" # whoever held it is gone
		elif [ $tries -gt 10 ]; then
			die 75 "another irflow call is at work here and does not end"
		else
			sleep 1
		fi
	done
	trap 'rm -rf "$locked"' EXIT
	echo $$ >"$locked/pid"
}

fence() { # NAME, the scope or, where steps of one scope run side by side, one of its parts: refuse whoever was overtaken
	fence_file=$state_dir/$1.epoch
	[ -n "$epoch" ] || die 64 "$verb needs --epoch"
	last=0 last_step=''
	[ ! -s "$fence_file" ] || read -r last last_step <"$fence_file" || :
	case $last in '' | *[!0-9]*) last=0 ;; esac
	[ "$epoch" -ge "$last" ] || die 75 "epoch $epoch is over: $last ($last_step) has taken over this host"
	[ "$epoch" -gt "$last" ] || return 0
	printf '%s %s\n' "$epoch" "$step" >"$fence_file.new"
	mv "$fence_file.new" "$fence_file"
}

# ---------------------------------------------------------------- processes

ancestors() { # -> above: the processes that carry this session, blank on both sides of each
	above=' ' process=$$
	while [ "$process" -gt 1 ] 2>/dev/null; do
		above="$above$process "
		{ read -r stat <"/proc/$process/stat"; } 2>/dev/null || break
		stat=${stat##*) } && stat=${stat#* }
		process=${stat%% *}
	done
}

picked() { # NUMBER ROOTS [boxed]: "PID NAME" of the processes of an account, of ROOTS, and of all below them
	# $above is spared. So are containers of the host: their accounts only have the same numbers. boxed lists these
	# instead. A user's own containers are the user's, and no user can put a process where a container manager does.
	# shellcheck disable=SC2016 # for awk
	grep -H -E '^(Name|State|PPid|Uid|NSpid):|docker|containerd|crio|kubepods|libpod|machine[.]slice|lxc|user[.]slice' \
		/proc/[0-9]*/status /proc/[0-9]*/cgroup 2>/dev/null |
		awk -v uid="$1" -v roots=" $2 " -v spared="$above" -v want="${3-}" '
		{ split($1, place, "/"); pid = place[3] }
		place[4] ~ /^cgroup:/ { if ($0 ~ /user[.]slice/) users[pid] = 1; else managed[pid] = 1; next }
		$1 ~ /:Name:$/ { name[pid] = $2 }
		$1 ~ /:State:$/ { state[pid] = $2 }
		$1 ~ /:PPid:$/ { parent[pid] = $2; if (index(roots, " " pid " ")) chosen[pid] = 1 }
		$1 ~ /:Uid:$/ { for (i = 2; i <= 5; i++) if (uid != "" && $i == uid) its[pid] = 1 }
		$1 ~ /:NSpid:$/ { nested[pid] = NF > 2 }
		END {
			for (pid in its) if (nested[pid] && (pid in managed) && !(pid in users)) boxed[pid] = 1; else chosen[pid] = 1
			do {
				grown = 0
				for (pid in parent) if (!(pid in chosen) && (parent[pid] in chosen)) { chosen[pid] = 1; grown = 1 }
			} while (grown)
			for (pid in parent) if ((want == "boxed" ? pid in boxed : pid in chosen) && state[pid] !~ /[ZX]/ &&
				!index(spared, " " pid " ")) print pid, name[pid]
		}'
}

end_picked() { # NUMBER ROOTS -> ended: how many; all are frozen first, as what runs could start more
	frozen=' ' ended=0 rounds=0
	while [ $rounds -lt 100 ]; do
		fresh=''
		for process in $(picked "$1" "$2" | sed 's/ .*//'); do
			case "$frozen" in *" $process "*) ;; *) fresh="$fresh$process " ended=$((ended + 1)) ;; esac
		done
		[ -n "$fresh" ] || break
		# shellcheck disable=SC2086 # splitting at the blanks is the point
		kill -STOP $fresh 2>/dev/null || :
		frozen="$frozen$fresh" rounds=$((rounds + 1))
	done
	# shellcheck disable=SC2086 # splitting at the blanks is the point
	[ "$frozen" = ' ' ] || kill -KILL $frozen 2>/dev/null || :
}

# ---------------------------------------------------------------- what is in force

seconds() { # 1d2h3m4s5ms -> total, in whole seconds
	text=$1 total=0
	case $text in *ms) text=${text%ms} && text=${text%"${text##*[!0-9]}"} ;; esac
	for unit_size in d:86400 h:3600 m:60 s:1; do
		case $text in *"${unit_size%:*}"*)
			total=$((total + ${text%%"${unit_size%:*}"*} * ${unit_size#*:}))
			text=${text#*"${unit_size%:*}"}
			;;
		esac
	done
}

foreign_rules() { # all rules of nft but irflow's own tables, which other steps may add and take away meanwhile
	ruleset=$(nft -s list ruleset) || die 65 "nft cannot list the ruleset"
	printf '%s\n' "$ruleset" | sed '/^table inet irflow/,/^}/d'
}

boot_mark() { # which boot this is: a container shares its machine's boot_id, so process 1 counts as well
	boot=unknown first=''
	{ read -r boot </proc/sys/kernel/random/boot_id && read -r first </proc/1/stat; } 2>/dev/null || :
	# shellcheck disable=SC2086 # splitting at the blanks is the point
	set -- ${first##*) }
	printf 'boot=%s-%s\n' "$boot" "${20-0}"
}
