#!/bin/sh
# Read this host for a backup. Nothing is changed on its disks, not even when a file was last read.
#
#   backup.sh look [--seconds 2] [OPTIONS] path:NAME... database:NAME...   what is there, as key=value lines
#   backup.sh tar  --seconds N [OPTIONS] path:NAME...                      a tar of it on standard output
#   backup.sh dump --seconds N [OPTIONS] database:NAME                     `pg_dump -Fc` of it on standard output
#
#   OPTIONS  --exclude NAME (tar; shell pattern, from / on)  --cross (also into other mounted file systems)
#            --account NAME (dump; runs pg_dump, postgres)  --port N (dump; PostgreSQL's)
#
# NAME is base64url, because names may hold any byte. What was sent is hashed here, over the very same bytes; standard
# error ends with `sha256=HEX ended=STATUS changed=N left_out=N`, before it come up to 200 `changed NAME` and
# `left_out NAME` lines, and `said TEXT` ones. Past its seconds a command is ended.
# Exit: 0; 64 usage; 66 nothing of it is there; 69 pg_dump or its account is missing; 70 tar or pg_dump failed;
# 73 no memory-backed folder to work in; 77 not root.
set -eu
umask 077
export LC_ALL=C TZ=UTC PATH=/usr/sbin:/usr/bin:/sbin:/bin

most_named=200 seconds=2 cross='' account=postgres port='' excludes='' paths='' databases=''

die() { # status text
	printf 'irflow: %s\n' "$2" >&2
	exit "$1"
}

decode() { # BASE64URL -> decoded; a name may end with line breaks, which a substitution would drop
	decoded=$(printf %s "$1" | tr -- '-_' '+/' | base64 -d 2>/dev/null && echo .) || die 64 "not base64url: '$1'"
	decoded=${decoded%?}
	decoded=${decoded%.}
}

verb=${1:-}
case $verb in look | tar | dump) shift ;; *) die 64 "usage: backup.sh look|tar|dump" ;; esac
while [ $# -gt 0 ]; do
	case $1 in
	--cross) cross=yes ;;
	--seconds | --port)
		case ${2:-} in '' | *[!0-9]* | ????????*) die 64 "$1 wants a whole number" ;; esac
		if [ "$1" = --port ]; then port=$2; else seconds=$2; fi
		shift
		;;
	--account)
		case ${2:-} in '' | -* | *[!a-z0-9_-]*) die 64 "--account wants an account's name" ;; esac
		account=$2
		shift
		;;
	--exclude)
		excludes="$excludes ${2:?}"
		shift
		;;
	path:?*) paths="$paths ${1#path:}" ;;
	database:?*) databases="$databases ${1#database:}" ;;
	*) die 64 "unknown argument '$1'" ;;
	esac
	shift
done
[ -r /proc/1/environ ] || die 77 "root is needed (sudo -n)"

work=''
for folder in /dev/shm /run; do
	[ -d $folder ] && work=$(mktemp -d $folder/.irflow.XXXXXX 2>/dev/null) && break
done
[ -n "$work" ] || die 73 "neither /dev/shm nor /run can be written"
trap 'rm -rf "$work"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE
trap 'exit 143' TERM

# ---------------------------------------------------------------- PostgreSQL

as_account() { # FUNCTION command...: have a function run it as the account; a login would be logged and could fail
	run=$1
	shift
	set -- env -i PATH="$PATH" LC_ALL=C TZ=UTC HOME=/ PGCONNECT_TIMEOUT=5 "$@"
	if command -v setpriv >/dev/null; then
		set -- setpriv --reuid="$account" --regid="$(id -g "$account")" --init-groups -- "$@"
	else
		set -- runuser -u "$account" -- "$@"
	fi
	"$run" "$@"
}

briefly() { # command...
	timeout 5 "$@" </dev/null 2>"$work/said"
}

find_program() { # NAME -> program: in the path, or where PostgreSQL's own packages put it, the newest
	program=$(command -v "$1" || :)
	for one in /usr/lib/postgresql/[0-9]*/bin/"$1" /usr/pgsql-[0-9]*/bin/"$1"; do
		if [ -z "$program" ] && [ -x "$one" ]; then program=$one; fi
	done
}

to_connect() { # DATABASE -> connection: a name that looks like connection settings must stay a name
	connection="dbname='$(printf '%s.' "$1" | sed "s/[\\\\']/\\\\&/g")"
	connection="${connection%.}'${port:+ port=$port}"
}

look_at_databases() {
	find_program pg_dump
	pg_dump=$program
	printf 'pg_dump=%s\n' "${pg_dump:-missing}"
	if id -u "$account" >/dev/null 2>&1; then echo account=there; else echo account=missing; fi
	find_program psql
	count=0
	for one in $databases; do
		size='' said='psql is not installed'
		if [ -n "$program" ] && id -u "$account" >/dev/null 2>&1; then
			decode "$one"
			to_connect "$decoded"
			size=$(cd / && as_account briefly "$program" -XAtqw -d "$connection" \
				-c 'SELECT pg_database_size(current_database())') || size=''
			said=$(head -n 1 "$work/said" | tr -cd '[:print:]' | cut -c1-300)
		fi
		case $size in
		'' | *[!0-9]*) printf 'database.%s.said=%s\n' $count "$said" ;;
		*) printf 'database.%s.bytes=%s\n' $count "$size" ;;
		esac
		count=$((count + 1))
	done
}

# ---------------------------------------------------------------- files

select_paths() { # -> arguments: those that are there, as ./NAME, from / on; count, present, absent: indexes
	count=0 present='' absent=''
	for one in $paths; do
		decode "$one"
		case $decoded in /*) ;; *) die 64 "not an absolute path" ;; esac
		if [ -e "$decoded" ] || [ -L "$decoded" ]; then present="$present $count"; else absent="$absent $count"; fi
		count=$((count + 1))
	done
}

look_at_paths() {
	select_paths
	for one in $absent; do printf 'path.%s=missing\n' "$one"; done
	set --
	for one in $excludes; do
		decode "$one"
		set -- "$@" "--exclude=$decoded"
	done
	set -- "$@" --
	any='' count=0
	for one in $paths; do
		decode "$one"
		case " $absent " in *" $count "*) ;; *) any=yes && set -- "$@" "$decoded" ;; esac
		count=$((count + 1))
	done
	[ -n "$any" ] || return 0
	: >"$work/sizes"
	if timeout "$seconds" du -sb ${cross:--x} "$@" </dev/null >"$work/sizes" 2>/dev/null || [ $? = 1 ]; then
		awk '/^[0-9]+\t/ { all += $1 } END { printf "bytes=%.0f\n", all }' "$work/sizes"
	fi
}

send_tar() {
	command -v tar >/dev/null || die 69 "tar is not installed here"
	select_paths
	[ -n "$present" ] || die 66 "none of the paths is there"
	set -- tar -C / -cf - --numeric-owner
	# Each where this tar has it: bytes that are the same every time, what belongs to a file, and no trace of reading.
	for option in '--format=posix --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime' --sparse --acls --xattrs \
		--selinux --atime-preserve=system "${cross:---one-file-system}" '--anchored --wildcards'; do
		[ "$option" = yes ] && continue
		# shellcheck disable=SC2086 # several words are several options
		! tar -C / -cf - --no-recursion $option ./ </dev/null >"$work/try" 2>"$work/said" || [ -s "$work/said" ] ||
			set -- "$@" $option
	done
	rm -f "$work/try" "$work/said"
	for one in $excludes; do
		decode "$one"
		set -- "$@" "--exclude=.$decoded"
	done
	count=0
	for one in $paths; do
		decode "$one"
		case " $absent " in *" $count "*) ;; *) set -- "$@" ".$decoded" ;; esac
		count=$((count + 1))
	done
	send "$@"
	# 1: a file changed while it was read. 2: something could not be read; the rest was sent, or tar said it gave up.
	case $ended in
	0 | 1) ;;
	2) ! grep -q '^said tar: Error is not recoverable' "$work/named" || failed "tar" ;;
	*) failed tar ;;
	esac
}

send_dump() {
	find_program pg_dump
	[ -n "$program" ] || die 69 "pg_dump is not installed here"
	id -u "$account" >/dev/null 2>&1 || die 69 "there is no account $account here"
	case $databases in ' '*' '* | '') die 64 "one database at a time" ;; esac
	decode "${databases# }"
	to_connect "$decoded"
	cd /
	# Not packed: the repository packs, and finds what did not change since the last dump. A table that somebody keeps
	# locked must not hold this up for ever.
	as_account send "$program" -Fc -Z0 -w --lock-wait-timeout=30s -d "$connection"
	[ "$ended" = 0 ] || failed pg_dump
}

# ---------------------------------------------------------------- sending

send() { # command...: its output to ours, hashed on the way; what it says, sorted into `named` -> ended
	mkfifo "$work/copy" "$work/errors"
	sha256sum <"$work/copy" >"$work/sum" &
	hashing=$!
	awk -v most=$most_named '
		/^tar: .*: (file changed as we read it|File shrank by .*|File removed before we read it)$/ {
			changed++; sub(/^tar: /, ""); sub(/: [^:]*$/, ""); if (changed <= most) print "changed " $0; next }
		/^tar: .*: ((Warning: )?Cannot .*|Read error .*)$/ {
			left++; sub(/^tar: /, ""); if (left <= most) print "left_out " $0; next }
		/^tar: .*: (socket ignored|Removing leading .*)$/ || /Exiting with failure status/ { next }
		{ if (++said <= 20) print "said " substr($0, 1, 400) }
		END { print "counts changed=" changed + 0 " left_out=" left + 0 }
	' <"$work/errors" >"$work/named" &
	sorting=$!
	{
		ended=0
		timeout -k 5 "$seconds" "$@" </dev/null 2>"$work/errors" || ended=$?
		echo $ended >"$work/ended"
	} | tee "$work/copy" || :
	wait $hashing $sorting || :
	ended=141
	[ ! -s "$work/ended" ] || read -r ended <"$work/ended"
}

failed() { # program
	case $ended in 124 | 137) die 70 "$1 was ended after $seconds s" ;; esac
	said=$(sed -n -e 's/^said //p' -e 's/^left_out //p' "$work/named" | head -n 3 | tr -s '\n\t ' ' ' | cut -c1-400)
	die 70 "$1 ended with status $ended: ${said:-it said nothing}"
}

case $verb in
look)
	[ -z "$databases" ] || look_at_databases
	[ -z "$paths" ] || look_at_paths
	;;
*)
	"send_$verb"
	grep -v ^counts "$work/named" >&2 || :
	read -r sum _ <"$work/sum"
	printf 'sha256=%s ended=%s %s\n' "$sum" "$ended" "$(sed -n 's/^counts //p' "$work/named")" >&2
	;;
esac
