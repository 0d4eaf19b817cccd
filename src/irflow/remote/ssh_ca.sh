#!/bin/sh
# Which authorities this host's sshd believes when a user shows a certificate: the keys in its TrustedUserCAKeys file.
#
#   ssh_ca.sh show   --file PATH                                                     TYPE:BASE64 of each key, one a line
#   ssh_ca.sh add    --file PATH --key T:B [--known T:B]... --id HEX --epoch N --step TEXT
#   ssh_ca.sh only   --file PATH --key T:B... --id HEX --epoch N --step TEXT
#   ssh_ca.sh revoke --file PATH --key T:B --id HEX --epoch N --step TEXT
#
# add: believe one more; refused where the file has a key that is neither it nor `known`. only: believe these, and no
# others. revoke: --file is the RevokedKeys file, a KRL or a list of keys, which must be there: with the key of an
# authority all its certificates are revoked, wherever else the host believes it.
# HEX: the document that decides. N: its version; a smaller one than this host has seen is refused.
# Exit: 0; 64 usage; 65 the file cannot be changed, or has a key that nobody knows; 69 a needed program is missing; 73 no
# place for state; 75 overtaken or busy; 77 not root.
#
# sshd reads both files at each login, so nothing has to be restarted. A RevokedKeys file that sshd cannot read makes it
# refuse every key: each file is replaced in one step.
set -eu
scope=ssh_ca
. ./common.sh
verb=${1:-}
case $verb in show | add | only | revoke) shift ;; *) die 64 "usage: ssh_ca.sh show|add|only|revoke" ;; esac
id='' epoch='' step='' file='' keys='' known=''
while [ $# -gt 0 ]; do
	[ $# -ge 2 ] || die 64 "no value for '$1'"
	case $1 in
	--epoch) number epoch "$2" && epoch=$2 ;;
	--step) step=$2 ;;
	--id) id=$2 ;;
	--file) file=$2 ;;
	--key | --known)
		case $2 in *[!A-Za-z0-9+/=:@.-]* | :* | *: | *:*:*) die 64 "not a public key: '$2'" ;; *:*) ;; *) die 64 "not a public key: '$2'" ;; esac
		[ "$1" = --known ] || keys="$keys $2"
		known="$known $2"
		;;
	*) die 64 "unknown argument '$1'" ;;
	esac
	shift 2
done
case $file in */../* | */..) die 64 "not a plain path: '$file'" ;; /*/*) ;; *) die 64 "not an absolute path: '$file'" ;; esac
need_root

there() { # each key of the file as TYPE:BASE64
	[ ! -e "$file" ] || awk '!/^[ \t]*(#|$)/ { print $1 ":" $2 }' "$file"
}

plain() { # -> owner root, and nobody else may have laid a link there
	folder=${file%/*}
	[ "$(stat -c %u -- "$folder")" = 0 ] || die 65 "the folder of $file is not root's"
	if [ -e "$file" ] || [ -L "$file" ]; then
		if [ ! -f "$file" ] || [ -L "$file" ]; then die 65 "$file is not a plain file"; fi
	fi
}

begin() { # -> new: beside the file
	new=$(mktemp "$folder/.irflow.XXXXXX") || die 65 "$folder cannot be written"
	trap 'rm -rf -- "$new" "$new.key" "$locked"' EXIT
}

put() { # NEW in place of the file, with its mode
	if [ -e "$file" ]; then chmod "$(stat -c %a -- "$file")" "$new"; else chmod 644 "$new"; fi
	if [ -e "$file" ] && cmp -s "$new" "$file"; then return; fi
	sync "$new" 2>/dev/null || :
	mv -T -- "$new" "$file" || die 65 "$file cannot be replaced"
}

if [ "$verb" = show ]; then
	there
	exit 0
fi
[ -n "$keys" ] || die 64 "$verb wants --key"
set -f # what stands in the files is no pattern
choose_state
take_lock
case $id in '' | *[!0-9a-f]*) die 64 "--id wants hex digits" ;; esac
fence "ssh_ca-$id"
plain
begin
case $verb in
add)
	for one in $(there); do
		case "$known " in *" $one "*) ;; *) die 65 "$file trusts an authority that irflow was not told of: $one" ;; esac
	done
	;;
revoke)
	[ -e "$file" ] || die 65 "there is no $file: sshd refuses every key while its RevokedKeys are not there"
	cat "$file" >"$new"
	printf '%s\n' "${keys# }" | tr ':' ' ' >"$new.key"
	if [ -s "$file" ] && [ "$(head -c 6 "$file" | tr -d '\000')" != SSHKRL ]; then
		grep -qF -- "$(cat "$new.key")" "$file" || cat "$new.key" >>"$new"
	else
		command -v ssh-keygen >/dev/null || die 69 "ssh-keygen is not installed here"
		update=-u
		[ -s "$file" ] || update=''
		# shellcheck disable=SC2086 # none, or one word
		ssh-keygen -q -k $update -f "$new" "$new.key" </dev/null >/dev/null || die 65 "$file is no KRL"
	fi
	put
	exit 0
	;;
esac
{
	# shellcheck disable=SC2016 # for awk
	[ ! -e "$file" ] || awk -v verb="$verb" -v keys="$keys " '
		/^[ \t]*(#|$)/ || verb == "add" || index(keys, " " $1 ":" $2 " ")' "$file"
	for one in $keys; do
		case " $(there | tr '\n' ' ')" in *" $one "*) ;; *) printf '%s irflow\n' "$one" | sed 's/:/ /' ;; esac
	done
} >"$new" || die 65 "$folder cannot be written"
put
