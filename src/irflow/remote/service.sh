#!/bin/sh
# Stop services on this host and keep them from starting; bring back exactly what was.
#
#   service.sh status --services NAME,NAME...
#   service.sh stop   --epoch N --step TEXT --id HEX --kind systemd|init [--mask UNIT,...] [--stop UNIT,...]
#   service.sh start  --epoch N --step TEXT --id HEX --kind systemd|init [--unmask UNIT,...] [--mode OCTAL]
#                                                                        [--start UNIT,...]
#
# NAME: as `systemctl` or `service` takes it. HEX: names the step. UNIT: a unit, or the name of an init script.
# Output: key=value lines; of status, a block for each service that begins with service=NAME. Exit: 0; 64 usage, or
# refused; 65 a service does not stop or start; 73 no place for state; 75 stale epoch, busy; 77 not root.
#
# Kept from starting: with systemd a mask, or a condition that never holds where the unit's own file is in the place of
# the mask; both outlive a boot, and neither touches what is enabled. Elsewhere an init script that cannot be executed.
set -eu
scope=service
. ./common.sh
verb=${1:-status}
[ $# -eq 0 ] || shift
epoch='' step='' id='' kind='' services='' mask='' unmask='' stop='' start='' mode=''
newline='
'
units=/etc/systemd/system
patience=15 # seconds that a service gets to stop or start by itself

names() { # NAME,NAME... -> the same with blanks
	case $1 in *[!A-Za-z0-9_@:.,-]* | -* | *,-* | *..*) die 64 "not the names of services: '$1'" ;; esac
	printf '%s' "$1" | tr , ' '
}

while [ $# -gt 0 ]; do
	[ $# -ge 2 ] || die 64 "no value for '$1'"
	case $1 in
	--epoch) number epoch "$2" && epoch=$2 ;;
	--step) step=$2 ;;
	--id) id=$2 ;;
	--kind) kind=$2 ;;
	--services) services=$(names "$2") ;;
	--mask) mask=$(names "$2") ;;
	--unmask) unmask=$(names "$2") ;;
	--stop) stop=$(names "$2") ;;
	--start) start=$(names "$2") ;;
	--mode) case $2 in *[!0-7]* | '' | ?????*) die 64 "--mode wants octal digits, not '$2'" ;; *) mode=$2 ;; esac ;;
	*) die 64 "unknown argument '$1'" ;;
	esac
	shift 2
done

# ---------------------------------------------------------------- processes and ports

family() { # PID -> family: it and all below it, blank on both sides of each
	family=" $1 " grown=1
	while [ $grown = 1 ]; do
		grown=0
		while read -r child parent; do
			case $family in *" $child "*) continue ;; *" $parent "*) family="$family$child " grown=1 ;; esac
		done <<-END
			$processes
		END
	done
}

ports_of() { # PID -> ports: TCP ports on which it, or what is below it, can be reached from other hosts
	ports=''
	[ "${1:-0}" -gt 1 ] || return 0
	family "$1"
	while read -r _ _ _ local_ _ users; do
		case $local_ in 127.* | \[::1\]* | '') continue ;; esac
		while :; do
			case $users in *pid=*) users=${users#*pid=} && user=${users%%[!0-9]*} ;; *) break ;; esac
			case "$family" in *" $user "*) ;; *) continue ;; esac
			case ",$ports," in *",${local_##*:},"*) ;; *) ports="$ports${ports:+,}${local_##*:}" ;; esac
		done
	done <<-END
		$listeners
	END
}

# ---------------------------------------------------------------- systemd

unit_name() { # NAME -> unit
	case $1 in *.service | *.socket | *.timer | *.path) unit=$1 ;; *) unit=$1.service ;; esac
}

unit_look() { # UNIT -> unit_id load active boot pid file triggers fall
	unit_id=$1 load=not-found active=inactive boot='' pid=0 file='' triggers='' fall=''
	while IFS= read -r line; do
		value=${line#*=}
		case $line in
		Id=*) unit_id=$value ;;
		LoadState=*) load=$value ;;
		ActiveState=*) active=$value ;;
		UnitFileState=*) boot=$value ;;
		MainPID=*) pid=$value ;;
		FragmentPath=*) file=$value ;;
		TriggeredBy=*) triggers=$value ;;
		RequiredBy=* | BoundBy=* | ConsistsOf=*) fall="$fall $value" ;;
		esac
	done <<-END
		$(systemctl show --no-pager -p Id -p LoadState -p ActiveState -p UnitFileState -p MainPID -p FragmentPath \
		-p TriggeredBy -p RequiredBy -p BoundBy -p ConsistsOf -- "$1" </dev/null)
	END
	[ "$load" != masked ] || boot=masked
}

is_active() { # from $active: whether it runs, is about to, or is tried again and again
	case $active in active | activating | deactivating | reloading | refreshing) return 0 ;; esac
	return 1
}

is_off() { # from unit_look: whether nothing starts it
	[ "$boot" = masked ] || [ -e "$units/$unit_id.d/irflow-stopped.conf" ]
}

joined() { # LIST UNIT: the list with commas, the unit at its end
	case ",$1," in *",$2,"*) printf '%s' "$1" ;; *) printf '%s' "$1${1:+,}$2" ;; esac
}

systemd_status() { # NAME
	to_stop='' to_mask='' falls='' carries=no
	unit_name "$1"
	unit_look "$unit"
	if [ "$load" = not-found ]; then
		echo kind=none
		return
	fi
	own=$unit_id own_pid=$pid own_boot=$boot own_triggers=$triggers own_fall=$fall running=no
	case $above in *" $pid "*) carries=yes ;; esac
	for process in $above; do
		case $(cat "/proc/$process/cgroup" 2>/dev/null) in *"/$own" | *"/$own$newline"* | *"/$own/"*) carries=yes ;; esac
	done
	off=no
	is_off && off=yes
	[ $off = yes ] || to_mask=$(joined "$to_mask" "$own")
	! is_active || running=yes
	for one in $own_triggers; do
		unit_look "$one"
		is_off || to_mask=$(joined "$to_mask" "$unit_id")
		! is_active || to_stop=$(joined "$to_stop" "$unit_id")
	done
	triggers_active=$to_stop
	for one in $own_fall; do # what needs it goes down with it
		unit_look "$one"
		! is_active || case $unit_id in *.target | *.slice) ;; *) falls=$(joined "$falls" "$unit_id") ;; esac
		case $above in *" $pid "*) carries=yes ;; esac
	done
	ports_of "$own_pid"
	printf 'kind=systemd\nunit=%s\nrunning=%s\nboot=%s\noff=%s\ncarries=%s\npid=%s\nports=%s\n' \
		"$own" $running "$own_boot" $off $carries "$own_pid" "$ports"
	printf 'triggers=%s\nmask=%s\nfalls=%s\n' "$triggers_active" "$to_mask" "$falls"
}

systemd_mask() { # UNIT
	unit_look "$1"
	! is_off || return 0
	case $file in
	"$units"/*) # a mask would have to take the file's own place
		[ -d "$units/$unit_id.d" ] || mkdir -m 755 "$units/$unit_id.d"
		printf '# irflow: stopped in an incident\n[Unit]\nConditionPathExists=!/\n' >"$units/$unit_id.d/irflow-stopped.conf"
		chmod 644 "$units/$unit_id.d/irflow-stopped.conf"
		systemctl daemon-reload </dev/null
		;;
	*) said=$(systemctl mask -- "$unit_id" </dev/null 2>&1) || die 65 "systemd does not mask $unit_id: $said" ;;
	esac
}

systemd_unmask() { # UNIT
	if [ -e "$units/$1.d/irflow-stopped.conf" ]; then
		rm -f "$units/$1.d/irflow-stopped.conf"
		rmdir "$units/$1.d" 2>/dev/null || :
		systemctl daemon-reload </dev/null
	else
		said=$(systemctl unmask -- "$1" </dev/null 2>&1) || die 65 "systemd does not unmask $1: $said"
	fi
}

systemd_stop() { # UNIT
	unit_look "$1"
	is_active || return 0
	case $above in *" $pid "*) die 64 "refusing to stop $1: it carries this session" ;; esac
	in_time systemctl stop -- "$1" || :
	unit_look "$1"
	is_active || return 0
	in_time systemctl kill -s KILL -- "$1" || :
	in_time systemctl stop -- "$1" || :
	unit_look "$1"
	! is_active || die 65 "$1 does not stop: it is $active"
}

systemd_start() { # UNIT
	unit_look "$1"
	[ "$active" != active ] || return 0
	in_time systemctl start -- "$1" || :
	unit_look "$1"
	is_active || die 65 "$1 does not start: it is $active; look at journalctl -u $1"
}

# ---------------------------------------------------------------- init scripts

init_pid() { # NAME -> pid: of a live process, from the usual places of pid files; 0 without one
	pid=0
	for place in /run/"$1".pid /var/run/"$1".pid /run/"$1"/"$1".pid /run/"$1"/pid; do
		[ -r "$place" ] || continue
		read -r pid <"$place" || :
		case $pid in '' | *[!0-9]* | 0 | 1) pid=0 && continue ;; esac
		[ ! -d "/proc/$pid" ] || return 0
		pid=0
	done
}

init_call() { # NAME VERB: as after a boot, without terminal and environment
	if [ -d /run/openrc ] && command -v rc-service >/dev/null; then
		set -- rc-service "$1" "$2"
	elif command -v service >/dev/null; then
		set -- service "$1" "$2"
	else
		set -- "/etc/init.d/$1" "$2"
	fi
	(
		cd /
		umask 022
		in_time setsid env -i PATH="$PATH" "$@"
	)
}

init_running() { # NAME: by its script, or by its pid file, as many scripts know no `status`
	init_pid "$1"
	[ "$pid" = 0 ] || return 0
	[ -x "/etc/init.d/$1" ] && init_call "$1" status
}

init_status() { # NAME
	if [ ! -f "/etc/init.d/$1" ]; then
		echo kind=none
		return
	fi
	running=no boot=disabled carries=no off=no to_mask=''
	! init_running "$1" || running=yes
	for link in /etc/rc[2-5S].d/S[0-9][0-9]"$1" /etc/runlevels/*/"$1"; do
		[ ! -e "$link" ] || boot=enabled
	done
	if [ -x "/etc/init.d/$1" ]; then to_mask=$1; else off=yes; fi
	case $above in *" $pid "*) carries=yes ;; esac
	ports_of "$pid"
	printf 'kind=init\nunit=%s\nrunning=%s\nboot=%s\noff=%s\ncarries=%s\npid=%s\nports=%s\nmode=%s\n' \
		"$1" $running $boot $off $carries "$pid" "$ports" "$(stat -L -c %a "/etc/init.d/$1")"
	printf 'triggers=\nmask=%s\nfalls=\n' "$to_mask"
}

init_stop() { # NAME
	init_running "$1" || return 0
	case $above in *" $pid "*) die 64 "refusing to stop $1: it carries this session" ;; esac
	init_call "$1" stop || :
	wait_for_end "$1" 30 || {
		! [ "$pid" -gt 1 ] || kill -KILL "$pid" 2>/dev/null || :
		wait_for_end "$1" 20 || die 65 "$1 does not stop"
	}
}

wait_for_end() { # NAME TENTHS: whether it has ended in that many tenths of a second
	tenths=$2
	while init_running "$1"; do
		[ "$tenths" -gt 0 ] || return 1
		tenths=$((tenths - 1))
		sleep 0.1 2>/dev/null || sleep 1
	done
}

init_start() { # NAME
	! init_running "$1" || return 0
	ended=0
	init_call "$1" start || ended=$?
	tenths=30
	until init_running "$1"; do # some scripts return before the daemon has written its pid file
		[ $tenths -gt 0 ] || die 65 "$1 does not start: its script ended with status $ended"
		tenths=$((tenths - 1))
		sleep 0.1 2>/dev/null || sleep 1
	done
}

# ---------------------------------------------------------------- verbs

in_time() { # COMMAND...: cut off when it takes too long; a daemon that it starts holds neither output nor lock open
	if command -v timeout >/dev/null; then set -- timeout -k 2 $patience "$@"; fi
	"$@" </dev/null >/dev/null 2>&1 9>&-
}

manager() { # what starts services here
	if [ -d /run/systemd/system ]; then echo systemd; else echo init; fi
}

status() {
	[ -n "$services" ] || die 64 "no service named"
	processes=$(ps -e -o pid= -o ppid= 2>/dev/null) || processes=''
	listeners=$(ss -H -l -t -n -p 2>/dev/null) || listeners=''
	echo "manager=$(manager)"
	for service in $services; do
		echo "service=$service"
		"$(manager)_status" "$service"
	done
}

ancestors
case $verb in
status)
	status
	exit
	;;
stop | start) ;;
*) die 64 "unknown verb '$verb'" ;;
esac
case $kind in systemd | init) ;; *) die 64 "--kind is systemd or init, not '$kind'" ;; esac
case $id in *[!0-9a-f]* | '') die 64 "--id wants hex digits, not '$id'" ;; esac
[ "$kind" = "$(manager)" ] || die 65 "services were started by $kind, and are by $(manager) now"
[ -n "$epoch" ] || die 64 "$verb needs --epoch"
need_root
choose_state
take_lock
fence "$scope-$id"
case $kind$verb in
systemdstop) # first the mask: whatever starts it must not be faster
	for one in $mask; do systemd_mask "$one"; done
	for one in $stop; do systemd_stop "$one"; done
	;;
initstop) # first the stop: a masked script stops nothing
	for one in $stop; do init_stop "$one"; done
	for one in $mask; do chmod a-x "/etc/init.d/$one"; done
	;;
systemdstart)
	for one in $unmask; do systemd_unmask "$one"; done
	for one in $start; do systemd_start "$one"; done
	;;
initstart)
	for one in $unmask; do chmod "${mode:-755}" "/etc/init.d/$one"; done
	for one in $start; do init_start "$one"; done
	;;
esac
echo done=yes
