#!/bin/sh
# Put files where nobody but root gets at them, and put them back exactly as they were.
#
#   quarantine.sh look    --id ID [--path BASE64URL]... [--root BASE64URL]... [--sha256 HEX]... [--cross yes]
#                         [--most BYTES] [--seconds N]     what is there; changes nothing
#   quarantine.sh fetch   --path BASE64URL --most BYTES    the file itself, to our output
#   quarantine.sh move    --id ID --epoch N --step KEY --path BASE64URL --sha256 HEX
#   quarantine.sh restore --id ID --epoch N --step KEY --path BASE64URL
#
# With --root all files below are hashed, and those with a hash that is asked for are told of as if they had been named.
# A file is first renamed into a folder of root's beside it and hashed there, where nobody can exchange it any more; if
# it is not what it was planned to be, it goes back at once. Then it goes to /var/lib/irflow/quarantine/ID/KEY.file,
# without any permission and immutable where that works; a file with several names keeps its permissions, which are
# the others' too. PATH is without links for fetch, move and restore. KEY.meta, written before, says all that putting it back needs. Links are never followed.
#
# Answer: `file=PATH STATE SHA256 BYTES MODE UID GID MTIME LINKS FLAGS PIDS FOLDER`, PATH and FOLDER (without links) in
# base64url, what is not known or empty as `-`. STATE: present, missing, quarantined, half_way (what it was, before a call was cut off), symlink, directory,
# special, guarded, unreadable, too_large. searched=complete|cut_off. `fetch` ends standard error with
# `sha256=HEX clock=UNIX_TIME missing=`, the hash of what was sent.
# Exit: 0; 64 usage; 65 not as it was planned, or something new is in its place; 69 a needed program is missing;
# 73 cannot be written; 75 overtaken; 77 not root.
set -eu
scope=quarantine
. ./common.sh

verb=${1:-} id='' epoch='' step='' paths='' roots='' hashes='' most=67108864 seconds=60 cross=''
case $verb in look | fetch | move | restore) shift ;; *) die 64 "usage: quarantine.sh look|fetch|move|restore" ;; esac
while [ $# -gt 0 ]; do
	[ $# -ge 2 ] || die 64 "$1 wants a value"
	case $1 in
	--id) id=$2 ;;
	--epoch) number epoch "$2" && epoch=$2 ;;
	--step) step=$2 ;;
	--path) paths="$paths $2" ;;
	--root) roots="$roots $2" ;;
	--sha256) hashes="$hashes $2" ;;
	--cross) cross=$2 ;;
	--most) number most "$2" && most=$2 ;;
	--seconds) number seconds "$2" && seconds=$2 ;;
	*) die 64 "unknown argument '$1'" ;;
	esac
	shift 2
done
case $id in *[!0-9a-f]*) die 64 "--id wants hex digits" ;; esac
[ -n "$id" ] || [ "$verb" = fetch ] || die 64 "$verb needs --id"
need_root
for program in stat sha256sum base64 find mv; do
	command -v $program >/dev/null || die 69 "$program is not installed here"
done
place=/var/lib/irflow/quarantine

encode() { # -> encoded
	encoded=$(printf %s "$1" | base64 | tr -d '\n' | tr -- '+/' '-_')
}

key_of() { # PATH -> key, file, meta
	key=$(printf %s "$1" | sha256sum | cut -c1-16)
	file=$place/$id/$key.file meta=$place/$id/$key.meta
}

told() { # NAME META -> value
	value=$(sed -n "s/^$1=//p" "$2" 2>/dev/null | tail -n 1)
}

hash_of() { # FILE -> hashed
	hashed=$(timeout -s KILL 120 sha256sum <"$1" 2>/dev/null | cut -c1-64) || hashed=''
}

flags_of() { # FILE -> flags: those that keep even root from moving it
	flags=''
	command -v lsattr >/dev/null || return 0
	case $(lsattr -d -- "$1" 2>/dev/null | cut -d' ' -f1) in *i*) flags=i ;; esac
	case $(lsattr -d -- "$1" 2>/dev/null | cut -d' ' -f1) in *a*) flags=${flags}a ;; esac
}

split() { # PATH -> folder, without links, name
	case $1 in /*) ;; *) die 64 "not an absolute path" ;; esac
	name=${1##*/}
	case $name in '' | . | ..) die 64 "not the path of a file" ;; esac
	folder=$(cd -P -- "${1%/*}/" 2>/dev/null && pwd -P && echo .) || return 1
	folder=${folder%??}
	[ "$folder" != / ] || folder=''
}

enter() { # FOLDER: fails when it is another one by now, or behind a link
	cd -P -- "$1/" 2>/dev/null || return 1
	here=$(pwd -P && echo .) && here=${here%??}
	[ "$here" != / ] || here=''
	[ "$here" = "$1" ]
}

# ---------------------------------------------------------------- what is there

guarded() { # FOLDER NAME: whether the responder's own way in, or irflow itself, lives by it
	case $1/$2 in
	/var/lib/irflow/* | /proc/* | /sys/* | /etc/passwd | /etc/group | /etc/shadow | /etc/nsswitch.conf | /etc/ssh/* | \
		/etc/pam.d/* | /etc/ld.so.cache) return 0 ;;
	esac
	[ -n "${in_use-}" ] || way_in
	case $in_use in *" $(stat -c '%d:%i' -- "$1/$2" 2>/dev/null) "*) return 0 ;; esac
	case $1 in */.ssh) case $accounts in *" $(stat -c %u -- "$1/$2" 2>/dev/null) "*) return 0 ;; esac ;; esac
	return 1
}

way_in() { # -> in_use: the programs and libraries that carry this session; accounts: whose they are
	process=$$ in_use=' ' accounts=' '
	while [ "$process" -gt 0 ] 2>/dev/null; do
		accounts="$accounts$(stat -c %u "/proc/$process" 2>/dev/null) "
		in_use="$in_use$(stat -L -c '%d:%i' "/proc/$process/exe" 2>/dev/null) "
		in_use="$in_use$(sed -n 's,^[^/]*\(/.*\)$,\1,p' "/proc/$process/maps" 2>/dev/null | sort -u | tr '\n' '\0' |
			xargs -0 -r stat -L -c '%d:%i' -- 2>/dev/null | tr '\n' ' ') "
		{ read -r line <"/proc/$process/stat"; } 2>/dev/null || break
		line=${line##*) } && line=${line#* }
		process=${line%% *}
	done
}

running() { # FILE -> pids that run it
	inode=$(stat -c '%d:%i' -- "$1") || inode=none
	[ -n "${programs-}" ] || programs=$(stat -L -c '%d:%i %n' /proc/[0-9]*/exe 2>/dev/null) || :
	pids=$(printf '%s\n' "$programs" | awk -v inode="$inode" '$1 == inode { split($2, part, "/"); print part[3] }' |
		head -n 20 | tr '\n' ',')
	pids=${pids%,}
}

answer() { # STATE FILE SHA256 PIDS FLAGS; without a FILE, facts are as they are
	encode "$path"
	[ -z "$2" ] || facts=$(stat -c '%s %a %u %g %.9Y %h' -- "$2")
	tail_of=$encoded
	encode "${folder:-}"
	printf 'file=%s %s %s %s %s %s %s\n' "$tail_of" "$1" "${3:--}" "$facts" "${5:--}" "${4:--}" "${encoded:--}"
}

half_way() { # whether this step was cut off while it moved what has $key -> held, hashed, flags, facts as they were
	[ -r "$meta" ] || return 1
	told stage "$meta"
	case $value in begun | returning) ;; *) return 1 ;; esac
	held=$folder/.irflow-$id-$key/file
	[ -f "$held" ] || held=$file
	[ -f "$held" ] || return 1
	hash_of "$held"
	facts=''
	for one in size mode uid gid mtime links; do told "$one" "$meta" && facts="$facts${facts:+ }$value"; done
	told flags "$meta" && flags=$value
}

in_quarantine() { # whether what has $key is in quarantine, for this step or another -> held, hashed, flags
	for one in "$place"/*/"$key.meta"; do
		[ -r "$one" ] || continue
		told stage "$one"
		if [ "$value" = moved ] && [ -f "${one%.meta}.file" ]; then
			hash_of "${one%.meta}.file"
			flags_of "${one%.meta}.file"
			held=${one%.meta}.file
			return 0
		fi
	done
	return 1
}

look_at() { # PATH
	path=$1 folder=''
	if split "$path"; then
		key_of "$folder/$name"
	else # its folder is gone
		folder=${path%/*} name=${path##*/}
		key_of "$path"
	fi
	if [ ! -e "$folder/$name" ] && [ ! -L "$folder/$name" ]; then
		facts='- - - - - -'
		if in_quarantine; then
			answer quarantined "$held" "$hashed" '' "$flags"
		elif half_way; then
			answer half_way '' "$hashed" '' "$flags"
		else
			answer missing ''
		fi
		return 0
	fi
	at=$folder/$name
	if [ -L "$at" ]; then
		answer symlink "$at"
	elif [ -d "$at" ]; then
		answer directory "$at"
	elif [ ! -f "$at" ]; then
		answer special "$at"
	elif guarded "$folder" "$name"; then
		answer guarded "$at"
	elif [ "$(stat -c %s -- "$at")" -gt "$most" ]; then
		answer too_large "$at"
	else
		hash_of "$at"
		running "$at"
		flags_of "$at"
		if [ -n "$hashed" ]; then answer present "$at" "$hashed" "$pids" "$flags"; else answer unreadable "$at"; fi
	fi
}

search() { # below the roots: files with one of the hashes; what the search finds is looked at as if it had been named
	make_work
	trap 'rm -rf "$work"' EXIT
	trap 'exit 143' HUP INT PIPE TERM
	for one in $hashes; do printf '%s\n' "$one"; done | sed 's/^/^/' >"$work/wanted"
	set --
	for one in $roots; do
		decode "$one"
		case $decoded in /*) set -- "$@" "$decoded" ;; *) die 64 "not an absolute path" ;; esac
	done
	set -- "$@" -nowarn
	[ -n "$cross" ] || set -- "$@" -xdev
	searched=complete
	timeout "$seconds" find "$@" \( -path /proc -o -path /sys -o -path "$place" \) -prune -o -type f \
		-size "-$((most + 1))c" -exec sha256sum -z -- {} + </dev/null 2>/dev/null >"$work/all" ||
		[ $? -ne 124 ] || searched=cut_off
	tr '\0\n' '\n\001' <"$work/all" | grep -f "$work/wanted" >"$work/found" || :
	while IFS= read -r line; do
		path=$(printf '%s.' "${line#*  }" | tr '\001' '\n')
		look_at "${path%.}"
	done <"$work/found"
	for one in "$place/$id"/*.meta; do # what an earlier try of this step has found there
		if [ -r "$one" ] && told sha256 "$one" && case "$hashes " in *" $value "*) ;; *) false ;; esac; then
			told path "$one"
			decode "$value"
			look_at "$decoded"
		fi
	done
	printf 'searched=%s\n' $searched
}

# ---------------------------------------------------------------- there and back

write_meta() { # $folder/$name is $hashed, flags
	mkdir -p "$place/$id" || die 73 "$place cannot be written"
	chmod 700 "$place" "$place/$id"
	encode "$folder"
	{
		printf 'folder=%s\n' "$encoded"
		encode "$path"
		printf 'path=%s\nsha256=%s\nflags=%s\n' "$encoded" "$wanted" "$flags"
		stat --printf 'size=%s\nmode=%a\nuid=%u\ngid=%g\nmtime=%.9Y\natime=%.9X\nlinks=%h\n' -- "./$name"
	} >"$meta.new" || die 73 "$place cannot be written"
	mv "$meta.new" "$meta"
}

stage() { # how far it is, for whoever comes after a crash
	printf 'stage=%s\n' "$1" >>"$meta"
}

is_file() {
	if [ -L "./$name" ] || [ ! -f "./$name" ]; then die 65 "it is no file any more"; fi
}

aside() { # the folder of root's beside the file
	private=.irflow-$id-$key
	if [ -L "$private" ] || { [ -e "$private" ] && [ "$(stat -c '%u %a' -- "$private")" != '0 700' ]; }; then
		die 65 "somebody else made $folder/$private"
	fi
	[ -d "$private" ] || mkdir -m 700 "$private" || die 73 "$folder cannot be written"
}

there_again() { # rename, never over something new -> fails if something is in the way
	mv -n -T -- "$1" "./$name" && [ ! -e "$1" ]
}

move() {
	case $hashes in ' '????????????????????????????????????????????????????????????????) wanted=${hashes# } ;; *) die 64 "move needs --sha256" ;; esac
	folder=${path%/*} name=${path##*/}
	enter "$folder" || die 65 "its folder is another one by now"
	private=.irflow-$id-$key
	if [ ! -f "$private/file" ] && { [ ! -f "$file" ] || [ -e "./$name" ]; }; then
		is_file
		! guarded "$folder" "$name" || die 65 "the responder's own way in needs it"
		hash_of "./$name"
		[ "$hashed" = "$wanted" ] || die 65 "it was changed meanwhile: it has SHA-256 $hashed now"
		flags_of "./$name"
		told stage "$meta" # an earlier try may have taken the attributes away
		[ "$value" != begun ] || { told flags "$meta" && flags=${flags:-$value}; }
		write_meta
		stage begun
		[ -z "$flags" ] || chattr -ia "./$name" || die 65 "its attributes ($flags) cannot be taken away"
		aside
		mv -n -T -- "./$name" "$private/file" || die 73 "it cannot be moved"
	fi
	[ ! -f "$private/file" ] || into_place
	hash_of "$file"
	[ "$hashed" = "$wanted" ] || die 65 "the copy in quarantine has SHA-256 $hashed"
	if [ "$(stat -c %h -- "$file")" = 1 ]; then
		! command -v chattr >/dev/null || chattr -i "$file" 2>/dev/null || : # a call that was cut off got so far
		chmod 000 "$file"
		! command -v chattr >/dev/null || chattr +i "$file" 2>/dev/null || :
	fi
	stage moved
	rmdir "$private" 2>/dev/null || :
}

into_place() { # from the folder beside, if it is what it should be
	hash_of "$private/file"
	if [ -L "$private/file" ] || [ "$hashed" != "$wanted" ]; then
		there_again "$private/file" || die 65 "it was exchanged meanwhile; what was taken instead is in $folder/$private"
		rmdir "$private"
		rm -f "$meta"
		die 65 "it was exchanged meanwhile: nothing was taken"
	fi
	rm -f "$file"
	mv -T -- "$private/file" "$file" || die 73 "$place cannot take it"
}

restore() {
	if [ ! -e "$meta" ]; then return 0; fi # it was never moved
	told stage "$meta"
	[ "$value" != restored ] || return 0
	told sha256 "$meta" && wanted=$value
	told folder "$meta" && decode "$value" && folder=$decoded
	name=${path##*/}
	enter "$folder" || die 65 "its folder is not there any more, or another one; the file is $file"
	private=.irflow-$id-$key
	if [ -f "$file" ] || [ -f "$private/file" ]; then
		if [ -e "./$name" ] || [ -L "./$name" ]; then
			die 65 "something new is in its place and is not overwritten; the file is $file"
		fi
		aside
		if [ -f "$file" ]; then
			! command -v chattr >/dev/null || chattr -i "$file" 2>/dev/null || :
			hash_of "$file"
			[ "$hashed" = "$wanted" ] || die 65 "the copy in quarantine has SHA-256 $hashed"
			stage returning
			mv -T -- "$file" "$private/file" || die 73 "$folder cannot take it"
		fi
		put_right "$private/file"
		hash_of "$private/file"
		[ "$hashed" = "$wanted" ] || die 65 "it has SHA-256 $hashed; the file is $folder/$private/file"
		there_again "$private/file" || {
			mv -T -- "$private/file" "$file" && rmdir "$private"
			die 65 "something new is in its place and is not overwritten; the file is $file"
		}
	fi
	told flags "$meta"
	case $value in '') ;; *)
		hash_of "./$name"
		[ "$hashed" != "$wanted" ] || chattr "+$value" "./$name" || die 65 "its attributes cannot be set again"
		;;
	esac
	rmdir "$private" 2>/dev/null || :
	stage restored
}

put_right() { # FILE: owner, permissions and times as they were; a change of the owner would take away setuid
	told uid "$meta" && uid=$value
	told gid "$meta" && gid=$value
	[ "$(stat -c '%u:%g' -- "$1")" = "$uid:$gid" ] || chown "$uid:$gid" -- "$1"
	told mode "$meta" && chmod "$value" -- "$1"
	told atime "$meta" && touch -a -d "@$value" -- "$1"
	told mtime "$meta" && touch -m -d "@$value" -- "$1"
}

# ---------------------------------------------------------------- verbs

one_path() {
	case $paths in ' '*' '* | '') die 64 "one path at a time" ;; esac
	decode "${paths# }"
	path=$decoded
}

send() { # the file, hashed on the way
	folder=${path%/*} name=${path##*/}
	enter "$folder" || die 65 "its folder is another one by now"
	is_file
	make_work
	trap 'rm -rf "$work"' EXIT
	mkfifo "$work/copy"
	sha256sum <"$work/copy" >"$work/sum" &
	hashing=$!
	head -c "$most" "./$name" | tee "$work/copy" || :
	wait $hashing || :
	read -r sum _ <"$work/sum"
	printf 'sha256=%s clock=%s missing=\n' "$sum" "$(date +%s.%N)" >&2
}

case $verb in
look)
	for one in $paths; do
		decode "$one"
		look_at "$decoded"
	done
	[ -z "$roots" ] || search
	;;
fetch)
	one_path
	send
	;;
move | restore)
	[ -n "$epoch" ] || die 64 "$verb needs --epoch"
	one_path
	choose_state
	[ $state_dir = /var/lib/irflow ] || die 73 "/var/lib/irflow cannot be written"
	take_lock
	fence "quarantine-$id"
	key_of "$path"
	"$verb"
	look_at "$path"
	;;
esac
