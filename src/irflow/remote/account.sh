#!/bin/sh
# Shut an account of this host: every way in and every way to come back; bring back exactly what was.
#
#   account.sh status  --accounts NAME,NAME...
#   account.sh disable --epoch N --step TEXT --id HEX --holder HEX --account NAME
#   account.sh enable  --epoch N --step TEXT --id HEX --holder HEX --account NAME
#
# HEX: --id names the step, --holder the incident; an account is enabled again when its last holder lets go.
# Output: key=value lines; of status, a block for each account that begins with account=NAME. Exit: 0; 64 usage, or
# refused; 65 the account cannot be changed; 72 no usermod; 73 no place for state; 75 stale epoch, busy; 77 not root.
#
# The password is locked and the account expired. With PAM a locked password alone stops no key; expiry alone stops keys,
# certificates, cron and at, but without PAM only the lock does. What is put aside lies in $keep, for root alone, with
# what is needed to bring it back; of the line in /etc/shadow only hashes: locking keeps the password where it is.
set -eu
scope=account
. ./common.sh
verb=${1:-status}
[ $# -eq 0 ] || shift
epoch='' step='' id='' holder='' accounts='' name=''
keep=/var/lib/irflow/accounts
linger_dir=/var/lib/systemd/linger
largest=16777216 # bytes of a file that is put aside on another file system; an intruder must not fill that

check_name() {
	check_account "$1"
	case $1 in *[!0-9]*) ;; *) die 64 "'$1' is a number, not the name of an account" ;; esac
}

while [ $# -gt 0 ]; do
	[ $# -ge 2 ] || die 64 "no value for '$1'"
	case $1 in
	--epoch) number epoch "$2" && epoch=$2 ;;
	--step) step=$2 ;;
	--id) id=$2 ;;
	--holder) holder=$2 ;;
	--account) check_name "$2" && name=$2 ;;
	--accounts) accounts=$(printf '%s' "$2" | tr , ' ') ;;
	*) die 64 "unknown argument '$1'" ;;
	esac
	shift 2
done

# ---------------------------------------------------------------- who it is

line_of() { # FILE NAME: its line
	# shellcheck disable=SC2016 # for awk
	awk -F: -v name="$2" '($1 "") == (name "") { print; exit }' "$1"
}

sha() { # of standard input
	sha256sum | cut -c1-64
}

sha_line() { # a built-in writes it: the line is in nobody's list of processes
	printf '%s\n' "$1" | sha
}

own_numbers() { # -> own: numbers of the accounts that carry this session
	own=' '
	for process in $above; do
		# shellcheck disable=SC2013 # the words of one line
		for one in $(sed -n 's/^Uid://p' "/proc/$process/status" 2>/dev/null); do
			[ "$one" = 0 ] || own="$own$one "
		done
	done
}

look_up() { # NAME -> uid home others shadow kind: local, directory (not in /etc/passwd), none
	name=$1 uid='' home='' others='' shadow='' kind=none
	entry=$(line_of /etc/passwd "$name")
	if [ -z "$entry" ]; then
		! getent passwd "$name" >/dev/null 2>&1 || kind=directory
		return 0
	fi
	kind=local
	uid=$(printf '%s' "$entry" | cut -d: -f3) home=$(printf '%s' "$entry" | cut -d: -f6)
	case $home in /) ;; */) home=${home%/} ;; esac
	# shellcheck disable=SC2016 # for awk
	others=$(awk -F: -v name="$name" -v uid="$uid" '($1 "") != (name "") && ($3 "") == (uid "") { print $1 }' /etc/passwd |
		tr '\n' ',')
	shadow=$(line_of /etc/shadow "$name")
	password=${shadow#*:} && password=${password%%:*}
	rest=$(printf '%s' "$shadow" | cut -d: -f3-) && changed=${rest%%:*}
	expires=$(printf '%s' "$rest" | cut -d: -f6)
	case $expires in *[!0-9]*) expires='' ;; esac
	locked=no expired=no
	case $password in '!'*) locked=yes ;; esac
	# 0 means either of two things (shadow(5)); the day itself still counts as valid
	if [ "${expires:-0}" -gt 0 ] && [ "$expires" -lt $(($(date +%s) / 86400)) ]; then expired=yes; fi
}

is_system() {
	first=$(sed -n 's/^UID_MIN[[:space:]]*//p' /etc/login.defs 2>/dev/null) || :
	[ "$uid" -lt "${first:-1000}" ] || [ "$uid" -ge 65534 ]
}

refuse() { # what must never be shut, whoever asks for it
	[ "$uid" != 0 ] || die 64 "refusing to disable $name: its number is 0, it is root"
	case $own in *" $uid "*) die 64 "refusing to disable $name: it carries this session" ;; esac
	case $name in sshd | messagebus | systemd-network | dhcpcd) die 64 "refusing to disable $name: the way in needs it" ;; esac
}

# ---------------------------------------------------------------- what would let it back in

key_patterns() { # where sshd looks for its keys: the default, what sshd says, and what any Match block says
	{
		echo '.ssh/authorized_keys .ssh/authorized_keys2'
		sshd -T -C "user=$name,host=localhost,addr=127.0.0.1" 2>/dev/null </dev/null | sed -n 's/^authorizedkeysfile //p'
		grep -h -i '^[[:space:]]*AuthorizedKeysFile' /etc/ssh/sshd_config /etc/ssh/sshd_config.d/*.conf 2>/dev/null |
			sed 's/^[[:space:]]*[A-Za-z]*[[:space:]=]*//; s/"//g; s/#.*//' || :
	} | tr -s '[:blank:]' '\n' | sort -u
}

expand() { # PATTERN -> path (sshd_config(5), TOKENS)
	path='' rest=$1
	while :; do
		case $rest in
		*%*) path=$path${rest%%\%*} rest=${rest#*%} ;;
		*) path=$path$rest && break ;;
		esac
		case $rest in h*) path=$path$home ;; u*) path=$path$name ;; U*) path=$path$uid ;; %*) path=$path% ;; esac
		rest=${rest#?}
	done
	case $path in /*) ;; *) path=${home%/}/$path ;; esac
}

shared_home() { # whether somebody else lives there too: then its keys are not this account's alone
	# shellcheck disable=SC2016 # for awk
	[ -z "$(awk -F: -v name="$name" -v home="${home%/}" '
		($1 "") != (name "") { if ($6 != "/") sub(/\/$/, "", $6); if ($6 == home || home == "") print }' /etc/passwd)" ] ||
		return 0
	place=$(stat -L -c %d:%i "$home" 2>/dev/null) || return 1
	# shellcheck disable=SC2016 # for awk
	awk -F: -v own="$own" '$3 == 0 || index(own, " " $3 " ") { print $6 }' /etc/passwd | sort -u |
		while IFS= read -r one; do stat -L -c %d:%i "$one" 2>/dev/null || :; done | grep -q -x -F "$place"
}

first_link() { # PATH in the home -> item: it, or the first link on the way; what a link names is not the account's
	item=${home%/} rest=${1#"${home%/}"/}
	while :; do
		item=$item/${rest%%/*}
		[ ! -L "$item" ] || return 0
		case $rest in */*) rest=${rest#*/} ;; *) return 0 ;; esac
	done
}

item() { # KIND PATH: say it, if it is a file or a link
	if [ -L "$2" ]; then
		digest=$(readlink "$2" | sha)
	elif [ -f "$2" ]; then
		digest=$(sha256sum <"$2" | cut -c1-64)
	else
		return 0
	fi
	printf '%s %s %s %s\n' "$1" "$digest" "$(stat -c '%u:%g %a %Y %s' "$2")" "$2"
}

items() { # KIND SHA256 OWNER MODE MTIME SIZE PATH of each thing that lets it in or comes back
	{
		alone=yes
		! shared_home || alone=no
		key_patterns | while IFS= read -r pattern; do
			case $pattern in '' | none | NONE) continue ;; esac
			expand "$pattern"
			case $path in "${home%/}"/*)
				[ $alone = yes ] || continue
				first_link "$path" && path=$item
				;;
			*) case $pattern in *%u* | *%U* | *%h*) ;; *) continue ;; esac ;; # all accounts share it
			esac
			item keys "$path"
		done
		for folder in /var/spool/cron/crontabs /var/spool/cron/tabs /var/spool/cron /etc/crontabs; do
			[ -L "$folder" ] || item cron "$folder/$name"
		done
		for folder in /var/spool/cron/atjobs /var/spool/at /var/spool/atjobs; do
			if [ ! -d "$folder" ] || [ -L "$folder" ]; then continue; fi
			find "$folder" -maxdepth 1 -type f -user "$uid" | sort | while IFS= read -r path; do item at "$path"; done
		done
		item linger "$linger_dir/$name"
	} | sort -u
}

# ---------------------------------------------------------------- what was, for root alone

recall() { # KEY: from what was written down before the account was touched
	sed -n "s/^$1=//p" "$mine/was"
}

remember() { # all that undo needs, whole or not at all
	known=no
	[ ! -s "$mine/was" ] || known=yes
	case $known$locked$expired in yesyesyes) return ;; esac
	if [ $known = no ]; then
		touch -r /etc/passwd "$mine/passwd.time"
		touch -r /etc/shadow "$mine/shadow.time"
		shadow_file=$(sha </etc/shadow) passwd_file=$(sha </etc/passwd)
	else
		shadow_file=$(recall shadow_file) passwd_file=$(recall passwd_file)
	fi
	expected=$(sha_line "$shadow")
	# Somebody opened half of it again: that half is new, the other is still as irflow left it.
	case $known$locked$expired in yesyesno | yesnoyes) expected='' ;; esac
	{
		printf '%s\n' "uid=$uid" "shadow=$expected" "passwd=$(sha_line "$entry")" \
			"shadow_file=$shadow_file" "passwd_file=$passwd_file"
		if [ $known$locked = yesyes ]; then
			sed -n '/^\(locked\|password\|left\|empty\|changed\)=/p' "$mine/was"
		else
			left=$password
			[ $locked = yes ] || left=!$password
			printf '%s\n' "locked=$locked" "password=$(sha_line "$password")" "left=$(sha_line "$left")" \
				"empty=$([ -n "$password" ] || echo yes)" "changed=$changed"
		fi
		if [ "$known$expired" = yesyes ]; then
			sed -n '/^\(expired\|expires\)=/p' "$mine/was"
		else
			printf '%s\n' "expired=$expired" "expires=$expires"
		fi
	} >"$mine/was.new" || die 73 "$mine cannot be written"
	mv "$mine/was.new" "$mine/was"
}

set_aside() { # what belongs to nobody now is kept, out of the way
	kept=$keep.left/$name-$(date +%Y%m%dT%H%M%S)-$$
	mkdir -p "$keep.left"
	mv "$mine" "$kept"
	echo "left=$kept"
}

# ---------------------------------------------------------------- status

block() {
	look_up "$1"
	echo "account=$name"
	echo "kind=$kind"
	[ $kind = local ] || return 0
	mine=$keep/$name carries=no system=no
	case $own in *" $uid "*) carries=yes ;; esac
	! is_system || system=yes
	printf '%s\n' "uid=$uid" "carries=$carries" "system=$system" "shares=${others%,}" "passwd=$(sha_line "$entry")"
	[ -z "$shadow" ] || printf '%s\n' "shadow=$(sha_line "$shadow")" "locked=$locked" "expired=$expired"
	items | sed 's/^/item=/'
	echo "boxed=$(picked "$uid" '' boxed | sed 's/ /:/' | tr '\n' ',')"
	alive=$(picked "$uid" '')
	[ -z "$alive" ] || printf '%s\n' "$alive" | while read -r process command; do
		printf 'process=%s %s %s\n' "$process" "$command" "$(sed -n 's/^[0-9]*:[^:]*://p' "/proc/$process/cgroup" \
			2>/dev/null | sed -n '/\.service/{s|.*/||p;q;}')"
	done
	if [ -s "$mine/was" ]; then
		echo "holders=$(for one in "$mine/holders"/*; do [ ! -e "$one" ] || printf '%s,' "${one##*/}"; done)"
		for one in shadow passwd locked expired; do echo "was_$one=$(recall $one)"; done
		[ ! -s "$mine/items" ] || sed 's/^[0-9]* /was_item=/' "$mine/items"
	fi
}

# ---------------------------------------------------------------- disable

edit() { # COMMAND...: change the files of accounts; who else does holds a lock for a moment
	command -v "$1" >/dev/null || die 72 "there is no $1 here to change $name with: install shadow (passwd)"
	tries=0
	until said=$("$@" 2>&1 </dev/null); do
		tries=$((tries + 1))
		[ $tries -lt 10 ] || die 65 "$1 does not change $name: $said"
		sleep 0.2 2>/dev/null || sleep 1
	done
}

put_aside() { # item lines on standard input -> aside/N; where they were and how is written down first
	while IFS= read -r line; do
		last=0
		[ ! -s "$mine/items" ] || last=$(wc -l <"$mine/items")
		number=$((last + 1))
		path=/${line#* /}
		size=$(stat -c %s "$path")
		if [ "$size" -gt $largest ] && [ "$(stat -c %d "$path")" != "$(stat -c %d "$mine")" ]; then
			echo "stays=$path: too large to be put aside"
			continue
		fi
		printf '%s %s\n' "$number" "$line" >>"$mine/items" || die 73 "$mine cannot be written"
		if said=$(mv -f "$path" "$mine/aside/$number.part" 2>&1); then
			mv "$mine/aside/$number.part" "$mine/aside/$number"
			echo "aside=$line"
		else
			echo "stays=$path: $said"
		fi
	done
}

monitors() { # sshd's own part, as root, of logins that are under way: it may still start a session
	# shellcheck disable=SC2013 # names of files, without blanks
	for place in $(grep -l -F -e "sshd: $name [priv]" -e "sshd-session: $name [priv]" /proc/[0-9]*/cmdline 2>/dev/null); do
		process=${place#/proc/} && process=${process%/cmdline}
		case $(cat "/proc/$process/comm" 2>/dev/null) in sshd*) ;; *) continue ;; esac
		case $above in *" $process "*) ;; *) printf '%s ' "$process" ;; esac
	done
}

end_all() { # every process of its number and below, until none is left
	rounds_left=15
	while [ -n "$(picked "$uid" '')" ] || [ -n "$(monitors)" ]; do
		[ $rounds_left -gt 0 ] || break
		end_picked "$uid" ''
		killed=$((killed + ended)) rounds_left=$((rounds_left - 1))
		if [ $rounds_left = 5 ]; then
			# shellcheck disable=SC2046 # splitting at the blanks is the point
			kill -KILL $(monitors) 2>/dev/null || :
		fi
		[ -z "$(picked "$uid" '')$(monitors)" ] || sleep 0.05 2>/dev/null || sleep 1
	done
}

disable() {
	[ $kind = local ] || die 65 "$name is no account of this host's own: it is not in /etc/passwd"
	refuse
	[ -n "$shadow" ] || die 65 "$name has no line in /etc/shadow, so it cannot expire: look at pwconv(8)"
	killed=0
	if [ -s "$mine/was" ] && [ "$(recall uid)" != "$uid" ]; then set_aside; fi # of another account that had this name
	mkdir -p "$mine/aside" "$mine/holders" || die 73 "$mine cannot be written"
	: >"$mine/holders/$holder" || die 73 "$mine cannot be written"
	remember
	case $locked$expired in # what somebody else did before stays as it is, also afterwards
	nono) edit usermod -L -e 1 "$name" ;;
	noyes) edit usermod -L "$name" ;;
	yesno) edit usermod -e 1 "$name" ;;
	esac
	end_all
	items | put_aside
	end_all # what cron or at had just begun
	: >"$mine/ended"
	echo "killed=$killed"
}

# ---------------------------------------------------------------- enable

differs() { # WHAT: somebody changed it while the account was shut; theirs is newer, it stays
	printf 'meanwhile=%s\n' "$1"
}

put_back() { # NUMBER KIND PATH
	aside=$mine/aside/$1
	# What is at its place again while moving it away had not ended is the whole of it.
	if [ -e "$path" ] || [ -L "$path" ]; then rm -f "$aside.part"; fi
	[ -e "$aside" ] || [ -L "$aside" ] || aside=$aside.part
	if [ ! -e "$aside" ] && [ ! -L "$aside" ]; then
		# An earlier try brought it back; where it is not there either, atd has run it.
		if [ "$2" = at ] && [ ! -e "$path" ]; then echo "back=$line"; fi
		return 0
	fi
	if [ -e "$path" ] || [ -L "$path" ]; then
		if [ ! -L "$path" ] && [ ! -L "$aside" ] && [ -f "$path" ] && cmp -s "$path" "$aside"; then
			rm -f "$aside"
		else
			differs "$path is there anew"
		fi
		return 0
	fi
	case $2$path in keys"${home%/}"/*) first_link "$path" ;; *) item=$path ;; esac
	if [ "$item" != "$path" ] || [ ! -d "${path%/*}" ]; then
		differs "the folder of $path is gone"
		return 0
	fi
	found=$(item "$2" "$aside")
	mv -f "$aside" "$path"
	echo "back=${found% "$aside"} $path" # by the time somebody looks, atd may have run it
	case $2 in
	at) at_again=yes ;;
	linger) linger_again ;;
	esac
}

linger_again() { # as before it was shut, without waiting for a boot
	[ -d /run/systemd/system ] && command -v loginctl >/dev/null || return 0
	touch -r "$path" "$mine/linger.time"
	loginctl enable-linger "$name" </dev/null >/dev/null 2>&1 || :
	touch -r "$mine/linger.time" "$path"
}

wake_atd() { # it looks again when it is told to, as at(1) tells it; else at the next full hour
	for place in /run/atd.pid /var/run/atd.pid; do
		[ -r "$place" ] || continue
		read -r process <"$place" || :
		case $process in '' | *[!0-9]* | 0 | 1) continue ;; esac
		[ "$(cat "/proc/$process/comm" 2>/dev/null)" != atd ] || kill -HUP "$process" 2>/dev/null || :
		return 0
	done
}

unlock() {
	now=$(sha_line "$password")
	if [ "$(recall locked)" = no ] && [ "$now" = "$(recall left)" ]; then
		if [ "$(recall empty)" = yes ]; then
			edit usermod -p '' "$name"
			was=$(recall changed)
			edit chage -d "${was:--1}" "$name"
		else
			edit usermod -U "$name"
		fi
	elif [ "$now" != "$(recall password)" ]; then
		differs 'the password was set anew'
	fi
}

unexpire() {
	if [ "$(recall expired)" = no ] && [ "$expires" = 1 ]; then
		edit usermod -e "$(recall expires)" "$name"
	elif [ "$expires" != "$(recall expires)" ]; then
		differs 'the day it expires was set anew'
	fi
}

same_time() { # FILE: as it was, if its content is
	[ "$(sha <"/etc/$1")" != "$(recall "$1_file")" ] || touch -r "$mine/$1.time" "/etc/$1"
}

bring_back() { # -> lines meanwhile=...
	if [ $kind = none ] || [ "$uid" != "$(recall uid)" ]; then
		differs 'the account itself is gone or another one'
		return
	fi
	if [ ! -e "$mine/ended" ]; then # cut off between freezing and ending
		for process in $(picked "$uid" '' | sed 's/ .*//'); do kill -CONT "$process" 2>/dev/null || :; done
	fi
	# First of all: what atd finds of an account that is still expired, it throws away.
	unlock
	unexpire
	at_again=no
	if [ -s "$mine/items" ]; then
		while IFS= read -r line; do
			number=${line%% *} line=${line#* } path=/${line#* /}
			put_back "$number" "${line%% *}"
		done <"$mine/items"
	fi
	[ $at_again = no ] || wake_atd
	[ -n "$(recall shadow)" ] || differs 'it was opened by hand in between'
	same_time passwd
	same_time shadow
}

enable() {
	if [ ! -s "$mine/was" ] || [ ! -e "$mine/holders/$holder" ]; then
		[ -s "$mine/was" ] || rm -rf "$mine" # cut off before anything was changed
		echo was=absent
		return
	fi
	for one in "$mine/holders"/*; do
		[ "${one##*/}" != "$holder" ] || continue
		rm -f "$mine/holders/$holder"
		printf 'was=held\nheld=%s\n' "${one##*/}"
		return
	done
	for one in shadow passwd; do echo "expected_$one=$(recall $one)"; done
	bring_back >"$mine/meanwhile"
	cat "$mine/meanwhile"
	if [ -n "$(ls -A "$mine/aside")" ]; then # theirs is in its place: neither is thrown away
		set_aside
	else
		rm -rf "$mine"
		rmdir "$keep" 2>/dev/null || : # the last one
	fi
	echo was=disabled
}

# ---------------------------------------------------------------- verbs

ancestors
own_numbers
need_root
case $verb in
status)
	[ -n "$accounts" ] || die 64 "no account named"
	for one in $accounts; do
		check_name "$one"
		block "$one"
	done
	exit
	;;
disable | enable) ;;
*) die 64 "unknown verb '$verb'" ;;
esac
for one in "$id" "$holder"; do
	case $one in *[!0-9a-f]* | '') die 64 "--id and --holder want hex digits, not '$one'" ;; esac
done
[ -n "$name" ] || die 64 "$verb needs --account"
[ -n "$epoch" ] || die 64 "$verb needs --epoch"
choose_state
take_lock
fence "$scope-$id"
look_up "$name"
mine=$keep/$name
"$verb"
echo done=yes
