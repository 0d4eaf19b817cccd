#!/bin/sh
# Replace the password of an account of this host.
#
#   password.sh check   --account NAME                        is $secret its password? Answers admitted=yes|no
#   password.sh set     --account NAME --id HEX --epoch N --step TEXT  $secret becomes its password
#   password.sh end     --account NAME --id HEX --epoch N --step TEXT  end the sessions that somebody opened as it
#   password.sh disable --account NAME --id HEX --epoch N --step TEXT  no password opens it until the next `set`
#
# HEX: the document that decides. N: its version; a smaller one than this host has seen is refused.
# Exit: 0; 64 usage; 65 the account cannot be changed; 67 no such account here; 69 a needed program is missing;
# 73 no place for state; 75 overtaken or busy; 77 not root.
#
# Only /etc/shadow counts: an account of a directory has its password elsewhere. `check` compares as the log-in does
# (crypt(3)); the password reaches the programs that need it on their standard input.
set -eu
scope=password
. ./common.sh
verb=${1:-}
case $verb in check | set | end | disable) shift ;; *) die 64 "usage: password.sh check|set|end|disable" ;; esac
secret=${secret-} account='' id='' epoch='' step=''
while [ $# -gt 0 ]; do
	[ $# -ge 2 ] || die 64 "no value for '$1'"
	case $1 in
	--account) account=$2 ;;
	--epoch) number epoch "$2" && epoch=$2 ;;
	--step) step=$2 ;;
	--id) id=$2 ;;
	*) die 64 "unknown argument '$1'" ;;
	esac
	shift 2
done
check_account "$account"
need_root
# shellcheck disable=SC2016 # for awk
uid=$(awk -F: -v name="$account" '($1 "") == (name "") { print $3; exit }' /etc/passwd)
[ -n "$uid" ] || die 67 "there is no account $account in /etc/passwd"

given() { # -> decoded: the password
	[ -n "$secret" ] || die 64 "no password was handed over"
	decode "$secret"
	case $decoded in *"
"*) die 64 "a password with a line break" ;; esac
}

hash_of_account() {
	# shellcheck disable=SC2016 # for awk
	awk -F: -v name="$account" '($1 "") == (name "") { print $2; exit }' /etc/shadow
}

end_sessions() { # what sshd, login or su opened as this account, and all below it; its services go on
	ancestors
	roots=''
	for process in $(picked "$uid" '' | sed 's/ .*//'); do
		comm='' login=''
		{ read -r comm <"/proc/$process/comm" && read -r login <"/proc/$process/loginuid"; } 2>/dev/null || :
		case $comm in sshd | sshd-session | login | su) roots="$roots $process" ;; esac
		[ "$login" != "$uid" ] || roots="$roots $process"
	done
	end_picked '' "$roots"
	printf 'ended=%s\n' "$ended"
}

case $verb in
check)
	command -v perl >/dev/null || die 69 "perl is not installed here: it compares passwords"
	given
	kept=$(hash_of_account)
	# shellcheck disable=SC2016 # for perl
	printf '%s\n%s\n' "$kept" "$decoded" | perl -e '
		chomp(my $kept = <STDIN>); chomp(my $given = <STDIN>);
		my $made = $kept =~ /^[!*]|^$/ ? undef : crypt($given, $kept);
		print "admitted=", (defined $made && $made eq $kept ? "yes" : "no"), "\n"'
	exit
	;;
esac
choose_state
take_lock
case $id in '' | *[!0-9a-f]*) die 64 "--id wants hex digits" ;; esac
fence "password-$id"
case $verb in
set)
	given
	printf '%s:%s\n' "$account" "$decoded" | chpasswd || die 65 "chpasswd does not take it"
	;;
end) end_sessions ;;
disable)
	usermod -L "$account" </dev/null || die 65 "usermod cannot lock it"
	end_sessions
	;;
esac
