#!/bin/sh
# End SSH sessions of this host, with all that runs in them; nobody is kept from logging in anew.
#
#   session.sh status [--accounts NAME,NAME...]
#   session.sh end    --epoch N --step TEXT --id HEX --sessions PID:START:NUMBER,...
#
# HEX: names the step. PID, START: of the process that leads a session; NUMBER: its account, 0 for none. As of status.
# Output: key=value lines. Of status, an account=NAME NUMBER for each account asked for that exists, and for each session
# session=PID START NUMBER NAME PEER OWN PROCESSES; NUMBER 0 and NAME - for who has not logged in yet, OWN is yes for irflow's own
# sessions: this one, and others of the same account from the same address. PROCESSES: how many would end.
# Exit: 0; 64 usage, or refused; 73 no place for state; 75 stale epoch, busy; 77 not root.
#
# A session is a connection to the port of an SSH server, with the server's processes that hold it (ss), the account that
# these run as, all processes below them, and those that the account left in the background (the kernel's audit session).
set -eu
scope=session
. ./common.sh
verb=${1:-status}
[ $# -eq 0 ] || shift
epoch='' step='' id='' accounts='' sessions=''

while [ $# -gt 0 ]; do
	[ $# -ge 2 ] || die 64 "no value for '$1'"
	case $1 in
	--epoch) number epoch "$2" && epoch=$2 ;;
	--step) step=$2 ;;
	--id) id=$2 ;;
	--accounts) accounts=$2 ;;
	--sessions) sessions=$2 ;;
	*) die 64 "unknown argument '$1'" ;;
	esac
	shift 2
done

# ---------------------------------------------------------------- processes of SSH servers

stat_of() { # PID -> parent started; fails when it is gone
	{ read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
	# shellcheck disable=SC2086 # splitting at the blanks is the point
	set -- ${stat##*) }
	parent=$2 started=${20}
}

title_of() { # PID: its title
	tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null || :
}

is_server() { # PID: whether it is an SSH server's
	case $(cat "/proc/$1/comm" 2>/dev/null) in sshd | sshd-* | dropbear) return 0 ;; esac
	return 1
}

number_of() { # PID: the account that it runs as; nothing when it is gone meanwhile
	sed -n 's/^Uid:[[:space:]]*\([0-9]*\).*/\1/p' "/proc/$1/status" 2>/dev/null || :
}

server_ports() { # -> ports: where SSH servers listen, blank on both sides of each; not what a session forwards
	ports=" ${IRFLOW_CONNECTION##* } $(sshd -T 2>/dev/null </dev/null | sed -n 's/^port //p' | tr '\n' ' ')"
	while read -r port process; do
		[ -n "$process" ] || continue
		if is_server "$process" && stat_of "$process" && [ "$parent" -le 1 ]; then ports="$ports$port "; fi
	done <<-END
		$(ss -H -l -t -n -p | sed -n 's/^[^ ]* *[^ ]* *[^ ]* *[^ ]*:\([0-9]*\) .*pid=\([0-9]*\),.*/\1 \2/p')
	END
}

connections() { # PEER PID PID... of each connection to those ports
	ss -H -t -n -p state established | while read -r _ _ here peer_port users; do
		case $ports in *" ${here##*:} "*) ;; *) continue ;; esac
		address=${peer_port%:*} && address=${address#\[} && address=${address%\]} && address=${address%%\%*}
		case $address in ::ffff:*.*) address=${address#::ffff:} ;; esac
		holders=$(printf '%s' "$users" | tr ',' '\n' | sed -n 's/^pid=//p' | tr '\n' ' ')
		[ -z "$holders" ] || printf '%s %s\n' "$address" "$holders"
	done
}

who_is() { # PID... -> uid: the account of a session, empty before it has logged in
	uid=''
	for process; do
		one=$(number_of "$process")
		case $one in 0 | '' | "$privsep") ;; *) uid=$one && return 0 ;; esac
	done
	for process; do # root has no process of its own beside the server's: its title, which only root can set, says it
		title=$(title_of "$process")
		case $title in sshd*:\ *\[priv\]* | sshd*:\ *@*) ;; *) continue ;; esac
		title=${title#*: } && title=${title%% *}
		uid=$(id -u "${title%@*}" 2>/dev/null) || uid=''
	done
}

leader_of() { # PID... -> leader: the one above all others
	for leader; do
		stat_of "$leader" || continue
		case " $* " in *" $parent "*) ;; *) return 0 ;; esac
	done
	return 1
}

in_background() { # LEADER NUMBER: what the account left running outside the tree of its session
	[ "${2:-0}" != 0 ] || return 0
	audit=4294967295
	{ read -r audit <"/proc/$1/sessionid"; } 2>/dev/null || :
	case $audit in 4294967295 | 0 | '') return 0 ;; esac
	grep -l -x -F "$audit" /proc/[0-9]*/sessionid 2>/dev/null | while IFS=/ read -r _ _ process _; do
		[ "$(number_of "$process")" != "$2" ] || printf '%s ' "$process"
	done
}

# ---------------------------------------------------------------- status

status() {
	for one in $(printf '%s' "$accounts" | tr , ' '); do
		case $one in -* | *[!A-Za-z0-9_@.+-]*) die 64 "not the name of an account: '$one'" ;; esac
		if uid=$(id -u "$one" 2>/dev/null); then echo "account=$one $uid"; fi
	done
	privsep=$(id -u sshd 2>/dev/null) || privsep=none
	server_ports
	own_uid=0 # the account that irflow itself has logged in with
	for process in $above; do
		one=$(number_of "$process")
		[ "${one:-0}" = 0 ] || own_uid=$one
	done
	connections | while read -r address holders; do
		# shellcheck disable=SC2086 # splitting at the blanks is the point
		leader_of $holders || continue
		is_server "$leader" || continue
		# shellcheck disable=SC2086 # splitting at the blanks is the point
		who_is $holders
		own=no
		case $above in *" $leader "*) own=yes ;; esac
		[ "$address $uid" != "$peer $own_uid" ] || own=yes
		name=$(id -n -u "${uid:-none}" 2>/dev/null) || name=-
		count=$(picked '' "$leader $(in_background "$leader" "$uid")" | wc -l)
		printf 'session=%s %s %s %s %s %s %s\n' "$leader" "$started" "${uid:-0}" "$name" "$address" $own "$count"
	done
}

# ---------------------------------------------------------------- end

end() {
	monitors='' total=0
	for one in $(printf '%s' "$sessions" | tr , ' '); do
		leader=${one%%:*} uid=${one##*:} one=${one#*:} && began=${one%:*}
		for two in "$leader" "$began" "$uid"; do number sessions "$two"; done
		case $above in *" $leader "*) die 64 "refusing to end session $leader: it is this one" ;; esac
		if ! stat_of "$leader" || [ "$started" != "$began" ]; then continue; fi # it has ended by itself
		is_server "$leader" || die 64 "refusing to end $leader: it leads no session"
		before=$above
		case $(number_of "$leader")$(title_of "$leader") in
		0*\[listener\]*) die 64 "refusing to end $leader: it is the SSH server itself" ;;
		# It ends by itself when the session that it watches is gone, and then writes the logout down.
		0*\[priv\]*) monitors="$monitors$leader " above="$above$leader " ;;
		esac
		end_picked '' "$leader $(in_background "$leader" "$uid")"
		above=$before total=$((total + ended))
	done
	for one in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
		left=''
		for process in $monitors; do [ ! -d "/proc/$process" ] || left="$left$process "; done
		[ -n "$left" ] || break
		sleep 0.1 2>/dev/null || sleep 1
	done
	# shellcheck disable=SC2086 # splitting at the blanks is the point
	[ -z "$left" ] || kill -KILL $left 2>/dev/null || :
	echo "ended=$total"
}

# ---------------------------------------------------------------- verbs

need_root
check_connection
ancestors
case $verb in
status)
	status
	exit
	;;
end) ;;
*) die 64 "unknown verb '$verb'" ;;
esac
case $id in *[!0-9a-f]* | '') die 64 "--id wants hex digits, not '$id'" ;; esac
[ -n "$epoch" ] || die 64 "$verb needs --epoch"
choose_state
take_lock
fence "$scope-$id"
end
echo done=yes
