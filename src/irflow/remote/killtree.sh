#!/bin/sh
# Find processes and all that belongs to them, freeze them, keep a record of them, kill them.
#
#   killtree.sh look   --id ID WHAT [--reach REACH] [--watch TENTHS]     what is there; changes nothing. With --watch it
#                                                                        looks again until something is, so long
#   killtree.sh freeze --id ID --epoch N --step KEY WHAT [--reach REACH] stop all of it, until nothing new appears
#   killtree.sh record --id ID [--program-bytes N]                       a tar.gz about what is frozen, to our output
#   killtree.sh kill   --id ID --epoch N --step KEY                      kill what is frozen, and wait until it is gone
#
#   WHAT   any of: --pid PID:ticks:START or PID:epoch:SECONDS    --children PID:ticks:START ... (not itself)
#          --path BASE64URL (a program, or a script with its interpreter)   --sha256 HEX (of the program)
#          --strange HEX (the same, but not where packages put their programs: a copy of perl is meant, perl is not)
#   REACH  tree: their children. session: also their sessions and log-ins, and what runs the same program, unless it lies
#          where packages put theirs. cgroup (default): also their control groups.
#
# A process is PID and START, the clock ticks from the boot to its birth (field 22 of /proc/PID/stat): a pid that was
# used again is another process. What is frozen stands in a list under the state folder before its first signal, so the
# next call finds it whatever happened. Process 1, kernel threads, whoever holds the socket on which this session came
# in and this session itself are never touched; a session or group that holds one of them is not followed.
#
# What forks itself anew all the time, its parent ending, is caught by its program, if that is asked for or no package's.
#
# Answer: `process=PID START UID STATE LINK PPID SHA256 PROGRAM COMMAND PARENT` (the last three in hex), LINK being how
# it was found: root, child, program, session, login, cgroup, frozen (by an earlier call); key=value lines. `record` ends
# standard error with `sha256=HEX clock=UNIX_TIME missing=WHAT`: the hash of what was sent.
# Exit: 0; 64 usage; 65 some of it does not end; 69 a needed program is missing; 73 no place to work in; 75 overtaken;
# 76 what was asked for must never be touched; 77 not root.
set -eu
scope=killtree
. ./common.sh

verb=${1:-} id='' epoch='' step='' reach=cgroup watch=0 children='' paths='' hashes='' strange='' pids=''
most_program=67108864 most_described=200 most_recorded=64 most_of_a_file=1048576 freeze_s=10
case $verb in look | freeze | record | kill) shift ;; *) die 64 "usage: killtree.sh look|freeze|record|kill" ;; esac
while [ $# -gt 0 ]; do
	[ $# -ge 2 ] || die 64 "$1 wants a value"
	case $1 in
	--id) id=$2 ;;
	--epoch) number epoch "$2" && epoch=$2 ;;
	--step) step=$2 ;;
	--reach) reach=$2 ;;
	--watch) number watch "$2" && watch=$2 ;;
	--program-bytes) number program-bytes "$2" && most_program=$2 ;;
	--pid) pids="$pids $2" ;;
	--children) children="$children $2" ;;
	--strange) strange="$strange $2" ;;
	--path) paths="$paths $2" ;;
	--sha256) hashes="$hashes $2" ;;
	*) die 64 "unknown argument '$1'" ;;
	esac
	shift 2
done
case $id in '' | *[!0-9a-f]*) die 64 "--id wants hex digits" ;; esac
case $reach in tree | session | cgroup) ;; *) die 64 "--reach is tree, session or cgroup" ;; esac
need_root
for program in awk find stat sha256sum base64 tar gzip; do
	command -v $program >/dev/null || die 69 "$program is not installed here"
done

make_work
tidy() { # take_lock sets a trap of its own
	trap 'rm -rf "$work" ${locked:+"$locked"}' EXIT
}
tidy
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE
trap 'exit 143' TERM
: >"$work/hashed" && : >"$work/known" && : >"$work/roots" && : >"$work/targets"
hz=$(getconf CLK_TCK 2>/dev/null) || hz=100
btime=$(sed -n 's/^btime //p' /proc/stat)

# ---------------------------------------------------------------- what is asked for, and what is never touched

selectors() { # -> $work/asked: "pid|children PID ticks|epoch START"
	for one in $pids $children; do
		case $one in [1-9]*:ticks:[0-9]* | [1-9]*:epoch:[0-9]*) ;; *) die 64 "not a process: '$one'" ;; esac
		number pid "${one%%:*}"
		number start "${one##*:}"
	done
	{
		for one in $pids; do echo "pid:$one"; done
		for one in $children; do echo "children:$one"; done
	} | tr : ' ' >"$work/asked"
}

way_in() { # -> listeners: processes that hold a socket listening on the port by which this session came in
	listeners=' '
	local_port=${IRFLOW_CONNECTION-}
	local_port=${local_port##* }
	case $local_port in '' | *[!0-9]*) return 0 ;; esac
	inodes=$(awk -v port="$(printf ':%04X' "$local_port")" \
		'$4 == "0A" && substr($2, length($2) - 4) == port { print $10 }' /proc/net/tcp /proc/net/tcp6 2>/dev/null) || :
	[ -n "$inodes" ] || return 0
	set -- -false
	for inode in $inodes; do set -- "$@" -o -lname "socket:\\[$inode\\]"; done
	listeners=" $(find /proc/[0-9]*/fd -maxdepth 1 \( "$@" \) 2>/dev/null | sed 's,^/proc/\([0-9]*\)/.*,\1,' |
		sort -u | tr '\n' ' ') "
}

pids_only() {
	sed 's,^/proc/\([0-9]*\)/exe$,\1,'
}

# A program may lie on a file system whose server is frozen by now, hence the time limits.
programs() { # -> $work/inodes: "DEVICE:INODE PID" of all that runs; $work/names: "PID NAME"; $work/foreign: pids of
	# what no package brought; $work/listed: pids of all there were when it began
	set -- /proc/[0-9]*/exe
	timeout -s KILL 5 stat -L -c '%d:%i %n' "$@" 2>/dev/null | sed 's,/proc/\([0-9]*\)/exe$,\1,' >"$work/inodes" || :
	find "$@" -maxdepth 0 -printf '%p %l\n' 2>/dev/null | sed 's,^/proc/\([0-9]*\)/exe ,\1 ,' >"$work/names" || :
	printf '%s\n' "$@" | pids_only >"$work/listed"
	find /proc/[0-9]*/exe -maxdepth 0 -lname '[/]*' ! -lname '/usr/*' ! -lname '/bin/*' ! -lname '/sbin/*' ! -lname '/lib*' \
		! -lname '/opt/*' ! -lname '/snap/*' ! -lname '/nix/*' 2>/dev/null | pids_only >"$work/foreign" || :
}

hash_of() { # INODE PID -> hashed; each program is read once
	hashed=$(awk -v inode="$1" '$1 == inode { print $2; exit }' "$work/hashed")
	[ -z "$hashed" ] || return 0
	at=/proc/$2/exe
	if [ ! -e "$at" ]; then # it has ended, but its program may still lie where it was
		at=$(sed -n "s/^$2 //p" "$work/names")
		inode_of "$at"
		[ "$inode" = "$1" ] || return 0
	fi
	hashed=$(timeout -s KILL 10 sha256sum 2>/dev/null <"$at" | cut -c1-64) || hashed=''
	[ -z "$hashed" ] || printf '%s %s\n' "$1" "$hashed" >>"$work/hashed"
}

by_hash() { # the youngest come first
	sort -k2,2rn "$work/inodes" | awk '!seen[$1]++' >"$work/distinct"
	while read -r inode process; do
		hash_of "$inode" "$process"
		awk -v inode="$inode" '$1 == inode { print $2 }' "$work/inodes" >"$work/runs"
		case "$hashes " in *" ${hashed:-nothing} "*) cat "$work/runs" >>"$work/roots" ;; esac
		case "$strange " in *" ${hashed:-nothing} "*) grep -x -F -f "$work/foreign" "$work/runs" >>"$work/roots" || : ;; esac
	done <"$work/distinct"
}

inode_of() { # NAME -> inode, empty when it is not there
	inode=$(timeout -s KILL 5 stat -L -c '%d:%i' -- "$1" 2>/dev/null) || inode=''
}

by_path() { # NAME: what runs it, also after it was deleted or under another name
	pattern=$(printf %s. "$1" | sed 's/[][*?\\]/\\&/g')
	pattern=${pattern%.}
	find /proc/[0-9]*/exe -maxdepth 0 \( -lname "$pattern" -o -lname "$pattern (deleted)" \) 2>/dev/null |
		pids_only >>"$work/roots" || :
	inode_of "$1"
	awk -v inode="$inode" 'inode != "" && $1 == inode { print $2 }' "$work/inodes" >>"$work/roots"
}

interpreters() { # -> $work/shells: pids of shells, perl, python ...
	set -- -false
	for name in sh ash dash bash zsh ksh mksh busybox node nodejs tclsh awk mawk gawk; do set -- "$@" -o -lname "*/$name"; done
	for name in python perl ruby php lua; do set -- "$@" -o -lname "*/$name" -o -lname "*/${name}[0-9]*"; done
	find /proc/[0-9]*/exe -maxdepth 0 \( "$@" \) 2>/dev/null | pids_only >"$work/shells" || :
}

by_script() { # NAME: what interprets it: the first argument that is no option
	inode_of "$1"
	wanted=$inode
	while read -r process; do
		script=$(tr '\0\n' '\n\001' <"/proc/$process/cmdline" 2>/dev/null |
			awk 'NR > 1 && $0 !~ /^-/ { printf "%s", $0; exit }' | tr '\001' '\n' && echo .) || script=.
		script=${script%?}
		case $script in '') continue ;; /*) here='' ;; *) here=/proc/$process/cwd/ ;; esac
		[ "$script" = "$1" ] || inode_of "$here$script"
		if [ "$script" = "$1" ] || [ "$inode" = "${wanted:-none}" ]; then echo "$process"; fi
	done <"$work/shells" >>"$work/roots"
}

meant() { # -> $work/roots: pids that a hash or a path means now; $work/targets: what they run
	: >"$work/roots"
	unread=0
	programs
	[ -z "$hashes$strange" ] || by_hash
	[ -z "$paths" ] || interpreters
	for one in $paths; do
		decode "$one"
		case $decoded in /*) ;; *) die 64 "not an absolute path" ;; esac
		by_path "$decoded"
	done
	awk 'FILENAME == ARGV[1] { root[$1] = 1; next } ($2 in root) { print $1 }' "$work/roots" "$work/inodes" >>"$work/targets"
	for one in $paths; do
		decode "$one"
		by_script "$decoded"
	done
	[ -z "$hashes$strange$paths" ] || too_late
}

too_late() { # -> unread: how many have ended before anybody could tell whether they are meant
	while read -r process; do [ -d "/proc/$process" ] || echo "$process"; done <"$work/listed" >"$work/ended"
	unread=$(awk -v by_path="$paths" '
		FILENAME == ARGV[1] { told[$1] = 1; next }
		FILENAME == ARGV[2] { if ($1 in told && by_path == "") ruled_out[$2] = 1; next }
		FILENAME == ARGV[3] { ruled_out[$1] = 1; next }
		!($1 in ruled_out)' "$work/hashed" "$work/inodes" "$work/roots" "$work/ended" | wc -l)
}

# ---------------------------------------------------------------- what belongs together

# One program for all of it: what forks must be looked at faster than it forks.
# shellcheck disable=SC2016 # for awk
closure='
function slurp(file,  text, all) { all = ""; while ((getline text < file) > 0) all = all text; close(file); return all }
function guard(pid) { if (pid in parent) guarded[pid] = 1 }
function take(pid, why) { if (!(pid in link) && !(pid in guarded)) { link[pid] = why; grown = 1 } }
function is(pid, clock, began,  apart) {
	if (!(pid in parent)) return 0
	if (clock == "ticks") return start[pid] == began
	apart = btime + start[pid] / hz - began # both may be a second off
	return apart > -3 && apart < 3
}
BEGIN {
	while ((getline line < (work "/known")) > 0) known[line] = 1
	while ((getline line < (work "/asked")) > 0) asked[++questions] = line
	while ((getline line < (work "/inodes")) > 0) { split(line, part, " "); inode[part[2]] = part[1] }
	while ((getline line < (work "/foreign")) > 0) foreign[line] = 1
	while ((getline line < (work "/roots")) > 0) root[line] = 1
	RS = "\001"
}
{
	count = split($0, names, /[ \n]+/)
	for (i = 1; i <= count; i++) {
		pid = names[i]; sub(/^.*\//, "", pid)
		if (pid == "" || (text = slurp("/proc/" pid "/stat")) == "") continue
		sub(/^.*\) /, "", text); split(text, part, " ")
		parent[pid] = part[2]; session[pid] = part[4]; start[pid] = part[20]
		state[pid] = part[1] == "Z" && part[18] > 1 ? "D" : part[1] # its first thread has ended, others go on
		kernel[pid] = int(part[7] / 2097152) % 2
		if (reach == "tree") continue
		login[pid] = slurp("/proc/" pid "/sessionid")
		if (reach == "session") continue
		text = slurp("/proc/" pid "/cgroup")
		if (!match(text, /(^|\n)0::[^\n]*/) || substr(text, RSTART, RLENGTH) ~ /::\/?$/)
			match(text, /(^|\n)[0-9]+:name=systemd:[^\n]*/)
		group[pid] = RLENGTH > 0 ? substr(text, RSTART, RLENGTH) : ""
		sub(/^\n?[0-9]+:[^:]*:/, "", group[pid])
	}
}
END {
	guard(1)
	for (pid in parent) if (kernel[pid]) guard(pid)
	holders = split(listeners, part, " ")
	for (i = 1; i <= holders; i++) guard(part[i])
	top = me
	for (pid = me; pid > 1 && (pid in parent) && !(pid in above); pid = parent[pid]) {
		guard(pid); above[pid] = 1
		if (holders && !index(listeners, " " pid " ")) top = pid
	}
	own[top] = 1 # all that the connection of this session carries, other calls of irflow among it
	do {
		grown = 0
		for (pid in parent) if (!(pid in own) && (parent[pid] in own)) { own[pid] = 1; guard(pid); grown = 1 }
	} while (grown)
	for (pid in root) # it ran a moment ago, and has ended since
		if (!(pid in parent) || state[pid] ~ /[ZX]/) { print "moved", pid; delete root[pid] }
	for (i = 1; i <= questions; i++) {
		split(asked[i], part, " ")
		if (!is(part[2], part[3], part[4])) continue
		if (part[1] == "pid") root[part[2]] = 1
		else { guard(part[2]); above_roots[part[2]] = 1 }
	}
	for (pid in guarded) { no_session[session[pid]] = 1; no_login[login[pid]] = 1; no_group[group[pid]] = 1 }
	no_session[0] = no_session[1] = no_login[""] = no_login[0] = no_login["4294967295"] = no_group[""] = no_group["/"] = 1
	for (pid in root)
		if (pid in guarded) print "never", pid
		else take(pid, "root")
	for (pid in parent) if (parent[pid] in above_roots) take(pid, "root")
	for (pid in parent) if ((pid "@" start[pid]) in known) take(pid, "frozen")
	do {
		grown = 0
		for (pid in link) {
			if (reach == "tree") break
			if (pid in foreign) programs[inode[pid]] = 1
			if (!(session[pid] in no_session)) sessions[session[pid]] = 1
			if (!(login[pid] in no_login)) logins[login[pid]] = 1
			if (!(group[pid] in no_group) && group[pid] !~ /\.slice$|\/init\.scope$/) groups[group[pid]] = 1
		}
		for (pid in parent) {
			if (pid in link) continue
			if (parent[pid] in link) take(pid, "child")
			else if ((pid in inode) && (inode[pid] in programs)) take(pid, "program")
			else if (session[pid] in sessions) take(pid, "session")
			else if (login[pid] in logins) take(pid, "login")
			else if (group[pid] in groups) take(pid, "cgroup")
		}
	} while (grown)
	for (pid in link) {
		text = slurp("/proc/" pid "/status")
		uid = match(text, /\nUid:\t[0-9]+/) ? substr(text, RSTART + 6, RLENGTH - 6) : "?"
		if (state[pid] !~ /[ZX]/) print (link[pid] != "root"), pid, start[pid], uid, state[pid], link[pid], parent[pid]
	}
}'

# Where a process ends between opening and reading its files, mawk gives up: then it looks anew.
again() { # COMMAND...: until it succeeds, eight times at most
	tries=0
	until "$@"; do
		tries=$((tries + 1))
		[ $tries -lt 8 ] || die 75 "the processes change faster than they can be looked at"
	done
}

close_over() {
	echo /proc/[0-9]* | awk -v me=$$ -v reach="$reach" -v listeners="$listeners" -v work="$work" -v hz="$hz" \
		-v btime="$btime" "$closure" >"$work/all" 2>"$work/gone"
}

together() { # all that belongs to what is asked for -> $work/now: PID START UID STATE LINK PPID, roots first;
	# moving: how many of the roots have ended since
	again close_over
	sed -n 's/^never //p' "$work/all" >"$work/never"
	moving=$(grep -c '^moved' "$work/all") || :
	sed '/^[nm]/d' "$work/all" | sort -n -k1,1 -k2,2 | cut -d' ' -f2- >"$work/now"
	[ ! -s "$work/never" ] || die 76 "never touched: $(
		while read -r process; do printf '%s (%s) ' "$process" "$(cat "/proc/$process/comm" 2>/dev/null)"; done <"$work/never"
	)is process 1, the kernel's, or carries the responder's way in"
}

# ---------------------------------------------------------------- saying it

describe() { # $work/now as process= lines; the first of them with program and command
	head -n $most_described "$work/now" | sed 's,^\([0-9]*\) .*,/proc/\1/exe,' >"$work/exes"
	: >"$work/links"
	# shellcheck disable=SC2046 # splitting at the line breaks is the point
	[ ! -s "$work/exes" ] || find $(cat "$work/exes") -maxdepth 0 -printf '\001%p\002%l' >"$work/links" 2>/dev/null || :
	awk 'NR == FNR { mine[$1] = 1; next } ($2 in mine) && !seen[$1]++' "$work/now" "$work/inodes" >"$work/distinct"
	while read -r inode process; do hash_of "$inode" "$process"; done <"$work/distinct"
	again lines_of_all
	cat "$work/lines"
	printf 'count=%s\nmoving=%s\nhz=%s\nbtime=%s\n' "$(wc -l <"$work/now")" "$moving" "$hz" "$btime"
}

lines_of_all() {
	awk -v work="$work" -v most=$most_described '
		function hex(text, most,  i, all) {
			all = ""
			for (i = 1; i <= length(text) && i <= most; i++) all = all sprintf("%02x", code[substr(text, i, 1)] + 0)
			return all == "" ? "-" : all
		}
		function first(file,  text) { text = ""; RS = "\001"; getline text < file; close(file); RS = "\n"; return text }
		BEGIN {
			for (i = 1; i < 256; i++) code[sprintf("%c", i)] = i
			while ((getline line < (work "/inodes")) > 0) { split(line, part, " "); inode[part[2]] = part[1] }
			while ((getline line < (work "/hashed")) > 0) { split(line, part, " "); hash[part[1]] = part[2] }
			RS = "\001"
			while ((getline line < (work "/links")) > 0)
				if ((at = index(line, "\002"))) program[substr(line, 7, at - 11)] = substr(line, at + 1)
			RS = "\n"
		}
		{
			command = parent = ""
			if (NR <= most) { command = first("/proc/" $1 "/cmdline"); parent = first("/proc/" $6 "/comm") }
			print "process=" $1, $2, $3, $4, $5, $6, hash[inode[$1]] == "" ? "-" : hash[inode[$1]],
				hex(program[$1], 4096), hex(command, 400), hex(parent, 16)
		}' "$work/now" >"$work/lines" 2>"$work/gone"
}

look() { # until something is there, or --watch is over; moving: also what was seen but never long enough
	read -r up _ </proc/uptime
	end=$((${up%.*}${up#*.} / 10 + watch)) passes=0 quiet=0 seen=0 enough=1
	[ -z "$hashes$strange$paths" ] || enough=3 # the list of processes can miss one that forks while it is read
	while :; do
		meant
		together
		[ ! -s "$work/now" ] || return 0
		[ "$moving" -eq 0 ] || seen=$moving
		quiet=$((quiet + 1)) passes=$((passes + 1))
		[ $((moving + unread)) -eq 0 ] || quiet=0
		if [ $quiet -lt $enough ] && [ $passes -lt 20 ]; then continue; fi # it may be here: look again at once
		[ $quiet -lt $enough ] || seen=0
		read -r up _ </proc/uptime
		[ $((${up%.*}${up#*.} / 10)) -lt $end ] || break
		sleep 0.1
	done
	moving=$seen
}

# ---------------------------------------------------------------- freezing and killing

read_list() { # -> $work/known: what an earlier call of this step froze since the last boot
	list=killtree-$id
	now_booted=$(boot_mark)
	for one in /var/lib/irflow/$list /run/irflow/$list; do
		if [ -r "$one" ] && [ "$(head -n 1 "$one")" = "$now_booted" ]; then sed 1d "$one"; fi
	done >"$work/known"
}

note_down() { # $work/fresh: before their first signal
	[ -s "$work/fresh" ] || return 0
	if [ ! -r "$state_dir/$list" ] || [ "$(head -n 1 "$state_dir/$list")" != "$now_booted" ]; then
		printf '%s\n' "$now_booted" >"$state_dir/$list"
	fi
	cat "$work/fresh" >>"$state_dir/$list"
	cat "$work/fresh" >>"$work/known"
}

marks() { # $work/now -> $work/marks, $work/fresh: PID@START of all, and of those not known yet
	awk '{ print $1 "@" $2 }' "$work/now" >"$work/marks"
	awk 'FILENAME == ARGV[1] { known[$1] = 1; next } !($1 in known)' "$work/known" "$work/marks" >"$work/fresh"
}

freeze_all() { # until nothing new appears and nothing of it runs, also nothing that a hash or a path means
	read -r up _ </proc/uptime
	end=$((${up%%.*} + freeze_s)) stable=no rounds=0 quiet=0 unread=0 more=20
	while [ $quiet -lt 3 ]; do
		meant
		together
		marks
		awk '$4 !~ /[TtD]/ { print $1 }' "$work/now" >"$work/running"
		if [ -s "$work/fresh" ] || [ -s "$work/running" ] || [ "$moving" -gt 0 ]; then
			note_down
			# shellcheck disable=SC2046 # splitting at the line breaks is the point
			[ ! -s "$work/running" ] || kill -STOP $(cat "$work/running") 2>/dev/null || :
			snatch
			quiet=0
		elif [ "$unread" -gt 0 ] && [ $more -gt 0 ]; then
			more=$((more - 1)) # on a busy host there is always something
		else
			quiet=$((quiet + 1))
		fi
		rounds=$((rounds + 1))
		read -r up _ </proc/uptime
		[ "${up%%.*}" -lt $end ] || break
	done
	[ $quiet -lt 3 ] || stable=yes
	let_go
}

snatch() { # what lives too short to be looked at first: the signal comes right after the look at its program
	if [ "$reach" != tree ]; then
		awk 'FILENAME == ARGV[1] { mine[$1] = 1; next } FILENAME == ARGV[2] { foreign[$1] = 1; next }
			($2 in mine) && ($2 in foreign) { print $1 }' "$work/now" "$work/foreign" "$work/inodes" >>"$work/targets"
	fi
	sort -u -o "$work/targets" "$work/targets"
	[ -s "$work/targets" ] || return 0
	caught=' ' nothing=0 looks=0
	while [ $nothing -lt 3 ] && [ $looks -lt 40 ]; do
		nothing=$((nothing + 1)) looks=$((looks + 1))
		for process in $(timeout -s KILL 5 stat -L -c '%d:%i %n' /proc/[0-9]*/exe 2>/dev/null |
			awk 'FILENAME == ARGV[1] { wanted[$1] = 1; next } ($1 in wanted) { split($2, part, "/"); print part[3] }' \
				"$work/targets" -); do
			case "$caught" in *" $process "*) continue ;; esac
			! kill -STOP "$process" 2>/dev/null || caught="$caught$process " nothing=0
		done
	done
	for process in $caught; do # its pid may have become another's in between; stopped, it keeps it
		inode_of "/proc/$process/exe"
		[ -z "$inode" ] || grep -q -x -F -e "$inode" "$work/targets" || kill -CONT "$process" 2>/dev/null || :
	done
}

let_go() { # what ended just before the signal: its pid may be another's. What is stopped keeps its pid
	awk 'FILENAME == ARGV[1] { now[$1] = 1; next } !($1 in now)' "$work/marks" "$work/known" >"$work/missed"
	while IFS=@ read -r process began; do
		{ read -r stat <"/proc/$process/stat"; } 2>/dev/null || continue
		# shellcheck disable=SC2086 # splitting at the blanks is the point
		set -- ${stat##*) }
		if [ "$1" = T ] && [ "${20}" != "$began" ]; then kill -CONT "$process" 2>/dev/null || :; fi
	done <"$work/missed"
}

wake_parents() { # su and sudo stop themselves along with what they started; they must see it end
	awk 'FILENAME == ARGV[1] { split($1, part, "@"); mine[part[1]] = 1; next } !($6 in mine) && $6 > 1 { print $6 }' \
		"$work/known" "$work/first" | sort -u >"$work/parents"
	while read -r process; do
		case $(sed -n 's/^State:.//p' "/proc/$process/status" 2>/dev/null) in T*) kill -CONT "$process" 2>/dev/null || : ;; esac
	done <"$work/parents"
}

kill_all() {
	rounds=0 killed=0
	while :; do
		programs
		together
		marks
		note_down
		[ $rounds -gt 0 ] || { cp "$work/now" "$work/first" && killed=$(wc -l <"$work/now"); }
		[ -s "$work/now" ] || break
		[ $rounds -lt 60 ] || die 65 "$(wc -l <"$work/now") do not end: $(head -n 5 "$work/now" | tr '\n' ';')"
		# shellcheck disable=SC2046 # splitting at the line breaks is the point
		kill -KILL $(awk '{ print $1 }' "$work/now") 2>/dev/null || :
		[ $rounds -eq 0 ] || sleep 0.1
		rounds=$((rounds + 1))
	done
	wake_parents
}

# ---------------------------------------------------------------- the record

record_of() { # PID -> $work/evidence/PID: everything but the values of its environment
	at=$work/evidence/$1
	mkdir "$at"
	tr '\0' '\n' <"/proc/$1/cmdline" >"$at/command" || :
	tr '\0\n' '\n\001' <"/proc/$1/environ" | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p' >"$at/environment_names" || :
	ls -ld "/proc/$1/exe" "/proc/$1/cwd" "/proc/$1/root" "/proc/$1"/ns/* >"$at/links" || :
	ls -l "/proc/$1/fd" >"$at/descriptors" || :
	for name in maps status stat cgroup mountinfo; do cat "/proc/$1/$name" >"$at/$name" || :; done
	net=$(stat -L -c %i "/proc/$1/ns/net") || return 0
	if [ ! -d "$work/evidence/network.$net" ]; then
		mkdir "$work/evidence/network.$net"
		for name in tcp tcp6 udp udp6 raw raw6 packet unix; do
			cat "/proc/$1/net/$name" >"$work/evidence/network.$net/$name" || :
		done
	fi
	find "/proc/$1/fd" -maxdepth 1 \( -lname '/tmp/*' -o -lname '/var/tmp/*' -o -lname '/dev/shm/*' -o -lname '/* (deleted)' \) \
		2>/dev/null | head -n 8 | while read -r descriptor; do # scripts, droppers' leftovers
		[ -f "$descriptor" ] || continue
		timeout -s KILL 2 head -c $most_of_a_file "$descriptor" >"$at/open.${descriptor##*/}" || :
	done
}

record_all() {
	mkdir "$work/evidence" "$work/programs"
	describe >"$work/evidence/processes"
	ps -eww -o pid,ppid,pgid,sid,user,lstart,tty,stat,args >"$work/evidence/all_processes" || :
	head -n $most_recorded "$work/now" >"$work/first"
	while read -r process _; do record_of "$process"; done <"$work/first" 2>/dev/null
	(cd "$work/evidence" && find . -type f ! -name MANIFEST -exec sha256sum {} + >"$work/manifest")
	missing=''
	while read -r inode process; do # the same lines as in describe
		hash_of "$inode" "$process"
		[ -n "$hashed" ] || { missing="$missing${missing:+,}program-of-$process" && continue; }
		size=$(stat -L -c %s "/proc/$process/exe" 2>/dev/null) || size=0
		[ "$size" -le "$most_program" ] || { missing="$missing${missing:+,}program-$hashed-of-$size-bytes" && continue; }
		[ -e "$work/programs/$hashed" ] || ln -s "/proc/$process/exe" "$work/programs/$hashed"
		printf '%s  ./programs/%s\n' "$hashed" "$hashed" >>"$work/manifest"
	done <"$work/distinct"
	sort -u -k2 "$work/manifest" >"$work/evidence/MANIFEST"
	printf %s "$missing" >"$work/missing"
}

pack() { # one tar of two: without the end of the first. Programs, also deleted ones, go out as they are read
	tar -C "$work" -b 1 -cf - evidence | head -c -1024
	tar -C "$work" -b 1 -chf - --transform='s,^programs,evidence/programs,' programs
}

send() { # hashed on the way
	mkfifo "$work/copy"
	sha256sum <"$work/copy" >"$work/sum" &
	hashing=$!
	pack | gzip -1 | tee "$work/copy" || :
	wait $hashing || :
	read -r sum _ <"$work/sum"
	printf 'sha256=%s clock=%s missing=%s\n' "$sum" "$(date +%s.%N)" "$(cat "$work/missing")" >&2
}

# ---------------------------------------------------------------- verbs

selectors
way_in
case $verb in
freeze | kill)
	[ -n "$epoch" ] || die 64 "$verb needs --epoch"
	choose_state
	take_lock
	tidy
	fence "killtree-$id"
	;;
esac
read_list
case $verb in record | kill) reach=tree ;; esac # what belongs to it is in the list
case $verb in
look)
	look
	describe
	;;
freeze)
	freeze_all
	describe
	printf 'stable=%s\nrounds=%s\n' $stable $rounds
	;;
record)
	programs
	together
	record_all
	send
	;;
kill)
	programs
	kill_all
	printf 'killed=%s\n' "$killed"
	;;
esac
